// What makes the account's pages nicer; they work without it.

// Dialogs open by `command` and `commandfor`; this is for browsers that do not know these attributes yet.
if (!("command" in HTMLButtonElement.prototype)) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[commandfor]");
    if (!button) return;
    const dialog = document.getElementById(button.getAttribute("commandfor"));
    if (button.getAttribute("command") === "close") dialog.close();
    else dialog.showModal();
  });
}

// A button waits until a field holds the text that confirms it. The server compares it, too.
for (const field of document.querySelectorAll("[data-confirm]")) {
  const button = document.getElementById(field.dataset.for);
  const compare = () => (button.disabled = field.value.trim().toLowerCase() !== field.dataset.confirm.toLowerCase());
  field.addEventListener("input", compare);
  compare();
}

// A form is sent once.
for (const form of document.forms) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
// Going back shows the page as it was: with forms that can be sent.
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// Times arrive in UTC and are shown in the reader's zone; the text in UTC stays as the title.
const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
for (const time of document.querySelectorAll("time")) {
  time.title = time.textContent;
  time.textContent = zone.format(new Date(time.dateTime));
}

// Code can be copied; without a script it can be selected.
for (const head of document.querySelectorAll(".code-h")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn quiet s";
  button.textContent = "Copy";
  button.ariaLabel = `Copy ${head.nextElementSibling.getAttribute("aria-label")}`;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(head.nextElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  head.append(button);
}

// First steps turn green when the server has seen them: asked every 2 seconds while the page is looked at, for 10 minutes.
const steps = document.querySelector("[data-steps]");
if (steps) {
  const said = document.getElementById("steps-said");
  const ends = Date.now() + 600_000;
  const ask = async () => {
    const waiting = [...steps.querySelectorAll("[data-step]:not(.done)")];
    if (waiting.length === 0) return;
    if (Date.now() > ends) {
      said.textContent = "This page no longer looks. Load it again to go on.";
      return;
    }
    if (!document.hidden) {
      const answer = await fetch(steps.dataset.steps, { redirect: "manual" }).catch(() => null);
      // Signed out: the page that asks for the password leads back.
      if (answer?.type === "opaqueredirect") return location.reload();
      const seen = answer?.ok ? await answer.json().catch(() => ({})) : {};
      for (const step of waiting) {
        if (!seen[step.dataset.step]) continue;
        step.classList.add("done");
        const text = step.querySelector("[data-done]");
        if (!text) continue;
        step.querySelector(".wait").classList.add("ok");
        said.textContent = text.textContent = text.dataset.done;
      }
    }
    setTimeout(ask, 2000);
  };
  ask();
}

// What went wrong takes the focus, so that it is read first.
document.querySelector("[data-focus]")?.focus();
