// Every page: htmx for parts that change, live updates, uploads, theme, shortcuts, messages.
import htmx from "htmx.org";
import { setUpChat } from "./chat";
import { followWork } from "./live";
import { setUpToasts } from "./toast";
import { setUpUploads } from "./upload";

htmx.config.allowEval = false;
htmx.config.includeIndicatorStyles = false;
htmx.config.selfRequestsOnly = true;
htmx.config.allowScriptTags = false;
htmx.config.historyCacheSize = 0;
htmx.config.scrollIntoViewOnBoost = false;
htmx.config.defaultSwapStyle = "outerHTML";

function setUpTheme(): void {
  const button = document.querySelector<HTMLButtonElement>("[data-theme-toggle]");
  button?.addEventListener("click", () => {
    const html = document.documentElement;
    const dark = html.dataset["theme"]
      ? html.dataset["theme"] === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    html.dataset["theme"] = dark ? "light" : "dark";
    localStorage.setItem("theme", html.dataset["theme"]);
    document.dispatchEvent(new Event("themechange"));
  });
}

function setUpShortcuts(): void {
  document.addEventListener("keydown", (event) => {
    const typing = (event.target as Element).closest("input, textarea, select, [contenteditable]");
    const find = (event.key === "k" && (event.ctrlKey || event.metaKey)) || (event.key === "/" && !typing);
    if (!find) return;
    const field =
      document.querySelector<HTMLInputElement>("[data-main-search]") ??
      document.querySelector<HTMLInputElement>("[data-top-search]");
    if (!field) return;
    event.preventDefault();
    field.focus();
    field.select();
  });
}

/** Forms marked `data-instant` are sent as soon as a choice in them changes. */
function setUpInstantForms(): void {
  document.addEventListener("change", (event) => {
    const field = event.target as HTMLInputElement;
    if (field.type === "text" || field.type === "search") return;
    field.closest<HTMLFormElement>("form[data-instant]")?.requestSubmit();
  });
}

function setUpReader(): void {
  const lit = document.querySelector<HTMLElement>("[data-lit]");
  lit?.scrollIntoView({ block: "center" });
}

function setUpDialogs(): void {
  document.addEventListener("click", (event) => {
    const opener = (event.target as Element).closest<HTMLElement>("[data-open]");
    if (opener) document.querySelector<HTMLDialogElement>(opener.dataset["open"]!)?.showModal();
    (event.target as Element).closest("[data-close]")?.closest("dialog")?.close();
  });
}

setUpTheme();
setUpShortcuts();
setUpInstantForms();
setUpDialogs();
setUpToasts();
setUpUploads();
setUpReader();
setUpChat();
followWork();
