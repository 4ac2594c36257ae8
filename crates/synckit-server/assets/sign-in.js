// The sign-in page: runs OPAQUE in a worker, so that the password does not leave this device and the page stays responsive.
const page = document.getElementById("gate").dataset;
const at = (id) => document.getElementById(id);

const toText = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const toBytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const appId = Uint8Array.from(page.appId.replaceAll("-", "").match(/../g), (hex) => parseInt(hex, 16));

// A fresh worker for each attempt: what it knew of the password ends with it.
const policy = globalThis.trustedTypes?.createPolicy("worker", { createScriptURL: (url) => url });
const login = () => {
  const worker = new Worker(policy ? policy.createScriptURL(page.worker) : page.worker);
  const ask = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data.failure === undefined ? resolve(data.bytes) : reject(new Refused(data.failure)));
      worker.onerror = () => reject(new Refused("broken"));
      worker.postMessage(message);
    });
  return { ask, end: () => worker.terminate() };
};

class Refused extends Error {
  constructor(code, retryAfter) {
    super(code);
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const post = async (path, body) => {
  let answer;
  try {
    answer = await fetch(page.base + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(60000),
    });
  } catch {
    throw new Refused("no answer");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(content.code ?? "broken", Number(answer.headers.get("Retry-After")));
  return content;
};

const step = (number) => {
  at("sign-in").hidden = number > 0;
  at("steps").hidden = number === 0;
  [...at("steps").children].forEach((li, index) => {
    li.classList.toggle("done", index + 1 < number);
    li.classList.toggle("now", index + 1 === number);
  });
  at("status").textContent = number ? `Step ${number} of 3: ${at("steps").children[number - 1].querySelector("h2").textContent}` : "";
};

const minutes = (seconds) => (seconds > 90 ? `${Math.ceil(seconds / 60)} minutes` : `${seconds || 1} seconds`);
const wrong = ["That address and password do not match", "Nobody is told which of the two is wrong. Type the password again: it was not kept."];
const messages = {
  wrong_password: wrong,
  invalid_credentials: wrong,
  unusable_password: ["No account has this password", "A password has at least one character, and at most 1024 bytes."],
  invalid_value: ["This is not an e-mail address", "Check the address."],
  login_expired: ["Start again", "The exchange took longer than it may, and was dropped. Nothing is wrong with your account. If this comes again, go back to the app and start there."],
  api_key_invalid: ["This app is not known here any more", "Go back to the app and start there."],
  "no wasm": ["This browser cannot make the proof", "It needs WebAssembly and 64 MB of memory for a second. Switch it on for this address, or sign in from the app. The password has not left this device."],
  "no answer": ["No answer", "The server did not answer. Check your connection. The password has not left this device."],
};
const explain = (refused) => {
  if (refused.code === "too_many_guesses" || refused.code === "rate_limited")
    return [`Wait ${minutes(refused.retryAfter)}`, "Too many attempts. Devices that are signed in go on working."];
  return messages[refused.code] ?? ["This did not work", `Try again later. If it stays so, tell whoever runs this server: ${refused.code}.`];
};

const signIn = async (email, password) => {
  const { ask, end } = login();
  try {
    step(1);
    const ke1 = await ask({ wasm: page.wasm, integrity: page.wasmIntegrity, password });
    const started = await post("/api/sync/auth/start", { api_key: page.apiKey, email, suite: 1, ke1: toText(ke1) });
    step(2);
    const ke3 = await ask({ appId, ke2: toBytes(started.ke2) });
    step(3);
    return await post("/oauth/sign-in", { request: page.request, login: started.login, ke3: toText(ke3) });
  } finally {
    end();
  }
};

at("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("refusal").hidden = true;
  const password = at("password").value;
  at("password").value = "";
  try {
    const { grant } = await signIn(at("email").value.trim(), password);
    at("grant").value = grant;
    at("go-on").submit();
  } catch (error) {
    const refused = error instanceof Refused ? error : new Refused("broken");
    const [title, text] = explain(refused);
    step(0);
    at("refusal-title").textContent = title;
    at("refusal-text").textContent = text;
    at("refusal").hidden = false;
    at("refusal").focus();
  }
});
at("submit").disabled = false;
