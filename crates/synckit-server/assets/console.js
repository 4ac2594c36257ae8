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

// What went wrong takes the focus, so that it is read first.
document.querySelector("[data-focus]")?.focus();
