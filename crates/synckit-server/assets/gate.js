// The pages of sign-in, sign-up and recovery: run OPAQUE in a worker, so that the password does not leave this device and the
// page stays responsive.
const at = (id) => document.getElementById(id);
const page = at("gate").dataset;

const toText = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const toBytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const idBytes = (id) => Uint8Array.from(id.replaceAll("-", "").match(/../g), (hex) => parseInt(hex, 16));
const utf8 = (text) => new TextEncoder().encode(text);

class Refused extends Error {
  constructor(code, retryAfter, status) {
    super(code);
    this.code = code;
    this.retryAfter = retryAfter;
    this.status = status;
  }
}

// A fresh worker for each attempt: what it knew of the password ends with it.
const policy = globalThis.trustedTypes?.createPolicy("worker", { createScriptURL: (url) => url });
const inWorker = async (work) => {
  const worker = new Worker(policy ? policy.createScriptURL(page.worker) : page.worker);
  const ask = (message) =>
    new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => (data.failure === undefined ? resolve(data.bytes) : reject(new Refused(data.failure)));
      worker.onerror = () => reject(new Refused("blocked"));
      worker.postMessage(message);
    });
  try {
    await ask({ wasm: page.wasm, integrity: page.wasmIntegrity });
    return await work((call, ...parts) => ask({ call, input: new Uint8Array(parts.flatMap((part) => [...part])) }));
  } finally {
    worker.terminate();
  }
};

// What a field of an answer is. A server draws no other answer; a proxy, or the portal of a hotel, answers anything.
const text = (value) => typeof value === "string" && value !== "";
const flag = (value) => typeof value === "boolean";
const count = (value) => Number.isInteger(value) && value > 0 && value < 2 ** 32;
// Only the documented answer is a success: with these fields, or without a body where there are none. Only the sign-in to the
// account has to do with a cookie.
const send = async (method, path, { body, token, cookie }, fields) => {
  const headers = { Accept: "application/json" };
  if (body) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(page.base + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: cookie ? "same-origin" : "omit",
      redirect: "error",
      signal: AbortSignal.timeout(60000),
    });
  } catch {
    throw new Refused("no answer");
  }
  if (!fields && answer.status === 204) return undefined;
  const content = await answer.json().catch(() => undefined);
  if (!answer.ok) {
    const code = content?.code === "invalid_value" && content.field !== "email" ? "broken" : content?.code;
    throw new Refused(code ?? "foreign answer", Number(answer.headers.get("Retry-After")), answer.status);
  }
  if (fields && answer.status === 200 && Object.entries(fields).every(([name, is]) => is(content?.[name]))) return content;
  throw new Refused("foreign answer");
};
const post = (path, body, fields) => send("POST", path, { body }, fields);
// Whether nobody can tell what became of a message: its answer was lost, came from somebody else, or tells of a failure that
// may have come after the change.
const isLost = (error) => error.code === "no answer" || error.code === "foreign answer" || error.status >= 500;

const stretching = "64 MB of memory for about a second. It costs you a moment and a thief years.";
const journeys = {
  login: [
    ["Asking the server for its half of the proof", "The request does not contain the password."],
    ["Stretching your password on this device", stretching],
    ["Proving it to the server", ""],
  ],
  change: [
    ["Proving the password until now", stretching],
    ["Stretching the new one, and closing your keys again with it", "On this device, with as much work again."],
    ["Giving the server what it cannot open", ""],
  ],
  code: [
    ["Proving your password", stretching],
    ["Opening your keys on this device, and closing them again with new words", ""],
    ["Giving the server what it cannot open", ""],
  ],
  registration: [
    ["Asking the server for its half of the lock", "The request does not contain the password."],
    ["Stretching your password and making your keys on this device", stretching],
    ["Giving the server what it cannot open", ""],
  ],
};
let steps = journeys.login;

// Shows one part of the page: a form, the steps of the work, or what comes after it.
const show = (id) => {
  for (const part of document.querySelectorAll("[data-part]")) part.hidden = part.id !== id;
  if (id !== "steps") at("status").textContent = "";
};
const begin = (journey) => {
  steps = journey;
  [...at("steps").children].forEach((li, index) => {
    li.querySelector("h2").textContent = journey[index][0];
    li.querySelector("p").textContent = journey[index][1];
  });
  show("steps");
};
const step = (number) => {
  [...at("steps").children].forEach((li, index) => {
    li.classList.toggle("done", index + 1 < number);
    li.classList.toggle("now", index + 1 === number);
  });
  at("status").textContent = `Step ${number} of 3: ${steps[number - 1][0]}`;
};
// What comes after the work begins with a heading, where a screen reader goes on.
const goTo = (id) => {
  show(id);
  at(id).querySelector("h2")?.focus();
};

const wait = (seconds) => {
  if (!(seconds > 1)) return "a moment";
  if (seconds > 7200) return "some hours";
  return seconds > 90 ? `${Math.ceil(seconds / 60)} minutes` : `${Math.ceil(seconds)} seconds`;
};
const wrong = ["That address and password do not match", "Nobody is told which of the two is wrong. Type the password again: it was not kept."];
const messages = {
  wrong_password: wrong,
  invalid_credentials: wrong,
  unusable_password: ["No account has this password", "A password has at least one character, and at most 1024 bytes."],
  weak_password: ["Choose a stronger password", "It needs 8 characters or more, and not one character again and again. Four random words are strong and easy to keep."],
  invalid_value: ["This is not an e-mail address", "Check the address."],
  login_expired: ["Start again", "The exchange took longer than it may, and was dropped. Nothing is wrong with your account. If this comes again, load this page anew."],
  mail_code_invalid: ["This code does not work", "It may be too old, used already, or meant for another address or password. Take it from the newest mail, or begin again. Where an invitation was needed, somebody may have used it meanwhile."],
  version_conflict: ["Start again", "Something else changed the account meanwhile. The same code still works."],
  invite_invalid: ["This invitation does not work", "It was used already, has ended, or was mistyped. Ask for another one."],
  registration_closed: ["No new accounts here", "This server takes no new accounts at the moment."],
  api_key_invalid: ["This app is not known here any more", "Go back to the app and start there."],
  taken: ["You may have an account already", "The account was not made with this password. Sign in instead, or choose “Forgotten password?” there."],
  changed_elsewhere: ["Start again", "Something else changed the account meanwhile. Nothing was changed here."],
  session_ended: ["Sign in again", "The session has ended meanwhile, perhaps by a change of the password elsewhere. Nothing was changed here."],
  unknown_password: ["Try the new password", "The connection was lost at the last step. Sign in with the new password. If it does not work, the old one still does."],
  unknown_code: ["Make a new code again", "The connection was lost at the last step, and nobody knows which words open your data now. Make a new code again until one is shown here. Keep the old words until then."],
  fresh_login_required: ["Start again", "The exchange took longer than it may. Nothing was changed."],
  other_vault: ["The server gave out another vault", "Your password is right, and does not open what the server holds as your keys. Nothing was changed. Ask the operator of this server; an older backup may be the reason."],
  no_cookie: ["This browser keeps no session", "Allow cookies for this address. Over plain http, browsers keep this one on your own machine only."],
  page_expired: ["This page was open for too long", "Go back to the app and start there again. Nothing was made yet."],
  unknown_end: ["Try to sign in", "The connection was lost at the last step. If you can sign in with this password, it was set; make a new recovery code in the app then. If not, start again here."],
  blocked: ["Something blocks this page", "A setting or an extension of the browser holds back a part of it. Allow this address, or use the app. The password has not left this device."],
  overloaded: ["The server is busy", "Nothing was changed. Try again in a moment."],
  "foreign answer": ["Something else answered", "The answer did not come from the server: perhaps from a proxy, or from a network that wants you to sign in first. Check your connection. The password has not left this device."],
  "no wasm": ["This browser cannot make the proof", "It needs WebAssembly and 64 MB of memory for a second. Switch it on for this address, or use the app. The password has not left this device."],
  "no answer": ["No answer", "The server did not answer. Check your connection. The password has not left this device."],
};
const explain = (refused) => {
  if (refused.code === "too_many_guesses" || refused.code === "rate_limited")
    return [`Wait ${wait(refused.retryAfter)}`, "Too many attempts. Devices that are signed in go on working."];
  return messages[refused.code] ?? ["This did not work", `Try again later. If that does not help, tell the operator of this server this word: ${refused.code}.`];
};
const refuse = (error, form) => {
  const refused = error instanceof Refused ? error : new Refused("broken");
  const [title, text] = explain(refused);
  show(form);
  at("refusal-title").textContent = title;
  at("refusal-text").textContent = text;
  at("refusal").hidden = false;
  at("refusal").focus();
};

// What a form does when it is sent. A refusal shows it again.
const on = (id, work) =>
  at(id)?.addEventListener("submit", async (event) => {
    event.preventDefault();
    at("refusal").hidden = true;
    try {
      await work();
    } catch (error) {
      refuse(error, id);
    }
  });
// A password is read once, and taken out of its field.
const take = (id) => {
  const text = at(id).value;
  at(id).value = "";
  return text;
};
const address = () => at("email").value.trim();
// A code is 32 digits in hexadecimal: what mail programs and people put between them is no part of it.
const mailCode = () => at("mail-code").value.replace(/[^0-9a-z]/gi, "").toLowerCase();
const openedAt = Date.now();

// A login for the app that asks, and what the consent page is asked for.
const signIn = (email, password, code) => {
  begin(journeys.login);
  return inWorker(async (ask) => {
    step(1);
    const ke1 = await ask("login_start", utf8(password));
    const begun = { api_key: page.apiKey, email, suite: 1, ke1: toText(ke1), code };
    const started = await post("/api/sync/auth/start", begun, { login: text, ke2: text });
    step(2);
    const ke3 = await ask("login_finish", idBytes(page.appId), toBytes(started.ke2));
    step(3);
    const proof = { request: page.request, login: started.login, ke3: toText(ke3) };
    return await post("/oauth/sign-in", proof, { grant: text, user_id: text });
  });
};
const goOn = (grant) => {
  at("grant").value = grant;
  at("go-on").submit();
};

const refuseWeak = (password) => {
  if ([...password].length < 8 || new Set(password).size < 2) throw new Refused("weak_password");
};
// A new password for a new account, or for one whose owner forgot the old one: its record, and a vault with new keys.
const register = (password, path, begun, answered) => {
  begin(journeys.registration);
  return inWorker(async (ask) => {
    step(1);
    const request = toText(await ask("register_start", utf8(password)));
    const expected = { registration: text, user_id: text, response: text, vault_generation: count };
    const started = await post(`${path}/start`, { ...begun, suite: 1, request }, expected);
    step(2);
    const generation = new Uint8Array(4);
    new DataView(generation.buffer).setUint32(0, started.vault_generation);
    const made = await ask("register_finish", idBytes(started.user_id), generation, toBytes(started.response));
    const [record, vault, rest] = parts(made, 2);
    const words = new TextDecoder().decode(rest);
    step(3);
    const finish = { registration: started.registration, record, vault };
    const expects = { ...answered, user_id: (userId) => userId === started.user_id };
    return { userId: started.user_id, words, answer: await repeated(() => post(path, finish, expects)) };
  });
};
// The parts of an output, each after its length in two bytes; then the rest.
const parts = (bytes, number) => {
  const found = [];
  for (; number > 0; number--) {
    const end = 2 + bytes[0] * 256 + bytes[1];
    found.push(toText(bytes.slice(2, end)));
    bytes = bytes.slice(end);
  }
  return [...found, bytes];
};
// A last message whose answer was lost is sent once more: it changes nothing twice.
const repeated = async (sent, unknown = "unknown_end") => {
  try {
    return await sent();
  } catch (error) {
    if (!isLost(error)) throw error;
    return await sent().catch((again) => {
      throw new Refused(again.code === "version_conflict" ? "version_conflict" : unknown);
    });
  }
};

// While a recovery code is shown, the browser asks before it leaves the page: nobody can show the code again.
const stay = (event) => event.preventDefault();
const giveWords = (words) => {
  at("words").replaceChildren(
    ...words.split(" ").map((word) => {
      const item = document.createElement("li");
      item.textContent = word;
      return item;
    }),
  );
  at("copy").onclick = async () => {
    await navigator.clipboard.writeText(words);
    at("copied").textContent = "Copied. Empty the clipboard afterwards.";
  };
  addEventListener("beforeunload", stay);
  goTo("code");
};
const takeWords = () => {
  removeEventListener("beforeunload", stay);
  at("words").replaceChildren();
  at("copy").onclick = null;
};

// Sign-in.
on("sign-in", async () => goOn((await signIn(address(), take("password"))).grant));

// Sign-up. The password is kept until the first sign-in, which confirms the address.
let made;
let grant;
const enter = async ({ email, password }, code) => {
  const signedIn = await signIn(email, password, code).catch((error) => {
    if (!made) throw error;
    made.wasLost ||= isLost(error) || error.code === "login_expired";
    // Where an answer was lost, the code may be used up: an account that is there needs none.
    if (!made.wasLost || error.code === "invalid_credentials" || error.code === "wrong_password") throw error;
    return signIn(email, password).catch((again) => {
      throw isLost(again) ? again : error;
    });
  });
  grant = signedIn.grant;
  // The account may have been there before, or come from another page: the words that this page made would open nothing.
  if (made?.userId === signedIn.user_id) giveWords(made.words);
  else goTo("no-code");
  made = undefined;
};
on("sign-up", async () => {
  const email = address();
  const password = take("password");
  refuseWeak(password);
  // An account that could not sign in with the page's request any more would never see its recovery code.
  if (Date.now() - openedAt > (page.seconds - 120) * 1000) throw new Refused("page_expired");
  if (made?.email !== email || made?.password !== password) {
    made = undefined;
    const begun = { email, invite: at("invite")?.value.trim() };
    const { userId, words, answer } = await register(password, "/api/accounts", begun, { pending: flag });
    made = { email, password, userId, words };
    if (answer.pending) return askForCode("confirm", email);
  }
  try {
    await enter(made);
  } catch (error) {
    if (error.code !== "wrong_password" && error.code !== "invalid_credentials") throw error;
    made = undefined;
    throw new Refused("taken");
  }
});
on("confirm", async () => {
  const typed = () => ({ email: at("again-email").value.trim(), password: take("again-password") });
  await enter(made ?? typed(), mailCode());
});

// Recovery.
on("request", async () => {
  const email = address();
  await post("/api/accounts/reset/request", { email });
  at("username").value = email;
  askForCode("reset", email);
});
on("reset", async () => {
  const password = take("password");
  refuseWeak(password);
  const { words } = await register(password, "/api/accounts/reset", { code: mailCode() }, {});
  giveWords(words);
});

// The account. A login for the server's own pages sets this browser's cookie; its account token opens the vault, which knows
// the keys.
const signInHere = async (ask, email, password) => {
  const ke1 = await ask("login_start", utf8(password));
  const begun = { email, suite: 1, ke1: toText(ke1) };
  const started = await post("/account/sign-in/start", begun, { login: text, ke2: text });
  const ke3 = await ask("login_finish", idBytes(page.appId), toBytes(started.ke2));
  const body = { login: started.login, ke3: toText(ke3) };
  return send("POST", "/account/sign-in", { body, cookie: true }, { user_id: text, account_token: text });
};
on("account-sign-in", async () => {
  const [email, password] = [address(), take("password")];
  begin(journeys.login);
  await inWorker((ask) => {
    step(2);
    return signInHere(ask, email, password);
  });
  // The cookie is invisible here. Its page tells whether the browser kept it.
  const kept = await fetch(`${page.base}/account`, { redirect: "manual", credentials: "same-origin" }).catch(() => {
    throw new Refused("no answer");
  });
  if (kept.type === "opaqueredirect") throw new Refused("no_cookie");
  step(3);
  location.assign(page.base + page.to);
});
const emptyVault = { vault: text, version: count };
const openVault = async (ask, password) => {
  step(1);
  const { user_id, account_token: token } = await signInHere(ask, page.email, password);
  // The address may have become another account's meanwhile.
  if (user_id !== page.userId) throw new Refused("invalid_credentials");
  step(2);
  const stored = await send("GET", "/api/account/vault", { token }, emptyVault);
  await ask("vault_open", idBytes(user_id), toBytes(stored.vault));
  return { token, version: stored.version };
};
const elsewhere = (error) => {
  throw error.code === "version_conflict" ? new Refused("changed_elsewhere") : error;
};
on("change-password", async () => {
  const [old, password] = [take("old-password"), take("password")];
  refuseWeak(password);
  begin(journeys.change);
  await inWorker(async (ask) => {
    const { token, version } = await openVault(ask, old);
    const request = toText(await ask("register_start", utf8(password)));
    const begun = { body: { suite: 1, request }, token };
    const started = await send("POST", "/api/account/password/start", begun, { registration: text, response: text });
    const [record, vault] = parts(await ask("vault_with_password", toBytes(started.response)), 2);
    step(3);
    const body = { registration: started.registration, record, vault, expected_version: version };
    const sent = () => send("POST", "/api/account/password", { body, token }, { version: count, refresh: text });
    await repeated(sent, "unknown_password").catch(elsewhere);
  });
  goTo("done");
});
on("new-code", async () => {
  const old = take("old-password");
  begin(journeys.code);
  const words = await inWorker(async (ask) => {
    const { token, version } = await openVault(ask, old);
    const [vault, words] = parts(await ask("vault_with_recovery"), 1);
    step(3);
    const body = { vault, expected_version: version };
    const stores = () => send("PUT", "/api/account/vault", { body, token }, { version: count });
    await repeated(stores, "unknown_code").catch(async (error) => {
      if (error.code !== "version_conflict" && error.code !== "unknown_code") throw error;
      // A write whose answer was lost may be there.
      const stored = await send("GET", "/api/account/vault", { token }, emptyVault).catch(() => {
        throw new Refused("unknown_code");
      });
      if (stored.vault !== vault) throw error.code === "unknown_code" ? error : new Refused("changed_elsewhere");
    });
    return new TextDecoder().decode(words);
  });
  giveWords(words);
});

// The form that takes a code from a mail: after a mail was asked for, or for somebody who comes back with one.
const askForCode = (form, email) => {
  at("mailed").hidden = email === undefined;
  at("mailed-to").textContent = email ?? "";
  const again = at("again");
  if (again) again.hidden = again.disabled = email !== undefined;
  goTo(form);
};
at("have-code")?.addEventListener("click", (event) => {
  event.preventDefault();
  at("refusal").hidden = true;
  made = undefined;
  askForCode(at("have-code").hash.slice(1));
});

on("code", () => {
  takeWords();
  return page.request ? goOn(grant) : goTo("done");
});
on("no-code", () => goOn(grant));

for (const reveal of document.querySelectorAll("[data-reveal]")) {
  reveal.addEventListener("click", () => {
    const field = at(reveal.dataset.reveal);
    const isShown = field.type === "text";
    field.type = isShown ? "password" : "text";
    reveal.setAttribute("aria-pressed", String(!isShown));
  });
}
for (const button of document.querySelectorAll("button[type=submit]")) button.disabled = false;
at("late").remove();
