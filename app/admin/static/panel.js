// What the panel's pages do beyond htmx: count down, close a dialog whose act went well, copy a text.
"use strict";

const units = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

function span(seconds) {
  for (const [size, unit, smaller, small] of units) {
    if (seconds < size) continue;
    const rest = Math.floor((seconds % size) / smaller);
    return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${small}` : ""}`;
  }
  return `${seconds} s`;
}

setInterval(() => {
  for (const one of document.querySelectorAll("[data-countdown]")) {
    one.textContent = span(Math.max(0, Math.round((Date.parse(one.dataset.countdown) - Date.now()) / 1000)));
  }
}, 1000);

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) event.target.closest("dialog")?.close();
});

// Whoever types a moment means it.
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-until]")) return;
  event.target.form.querySelector("[name=minutes][value='']").checked = true;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent).then(() => {
    const words = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = words), 1500);
  });
});

// On a phone what a page lists comes before its filters.
const narrow = matchMedia("(max-width: 720px)");
function fold() {
  for (const one of document.querySelectorAll("details[data-folds]")) one.open = !narrow.matches;
}
fold();
narrow.addEventListener("change", fold);

// The part of a page that opened a dialog may have renewed itself since: then the focus has no place to go back to.
document.addEventListener("close", (event) => {
  if (document.activeElement !== document.body) return;
  document.querySelector(`[data-open="#${event.target.id}"]`)?.focus();
}, true);
