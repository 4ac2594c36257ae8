// One login or registration by OPAQUE (RFC 9807), in a worker of its own. First message: {wasm, integrity}, answered with no
// bytes. Each further one: {call, input}, a function and its bytes, answered with its output. A refusal is {failure}.
const failures = { 1: "wrong_password", 2: "unusable_password", 3: "broken", 4: "broken", 5: "other_vault" };

let exports;

const load = async (url, integrity) => {
  const file = await fetch(url, { integrity, credentials: "omit" }).catch(() => { throw "no answer"; });
  const bytes = await file.arrayBuffer().catch(() => { throw "no answer"; });
  const random = (at, length) => {
    // Browsers hand out 64 KiB at a time.
    for (let done = 0; done < length; done += 65536)
      crypto.getRandomValues(new Uint8Array(exports.memory.buffer, at + done, Math.min(65536, length - done)));
  };
  const { instance } = await WebAssembly.instantiate(bytes, { page: { random } });
  exports = instance.exports;
};

const call = (name, input) => {
  const at = exports.input(input.length);
  new Uint8Array(exports.memory.buffer, at, input.length).set(input);
  const failure = exports[name]();
  if (failure) throw failures[failure] ?? "broken";
  return new Uint8Array(exports.memory.buffer, exports.output(), exports.output_length()).slice();
};

onmessage = async ({ data }) => {
  try {
    postMessage({ bytes: data.call ? call(data.call, data.input) : await load(data.wasm, data.integrity) });
  } catch (error) {
    // What is left is a browser that does not run WebAssembly, or not 64 MB of it.
    postMessage({ failure: typeof error === "string" ? error : "no wasm" });
  }
};
