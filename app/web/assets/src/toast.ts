// Short messages: what an action did, or why it failed and what to do.
interface Problem {
  message?: string;
  error?: string;
}

export function toast(text: string, kind: "good" | "bad" = "good"): void {
  // While a dialog is open the rest of the page is out of reach, for a screen reader, too.
  const dialog = kind === "bad" ? document.querySelector("dialog[open] form") : null;
  const place = dialog ?? document.getElementById("toasts");
  if (!place) return;
  const box = document.createElement("div");
  if (dialog) box.setAttribute("role", "alert");
  box.className = `toast ${kind}`;
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "button quiet small";
  close.textContent = "Close";
  close.addEventListener("click", () => box.remove());
  box.append(words, close);
  place.append(box);
  setTimeout(() => box.remove(), kind === "bad" ? 15_000 : 4_000);
}

/** Turns answers of htmx requests into messages; a button may carry the words for its success. */
export function setUpToasts(): void {
  document.body.addEventListener("htmx:afterRequest", (event) => {
    const { xhr, successful, elt } = (event as CustomEvent<{ xhr: XMLHttpRequest; successful: boolean; elt: HTMLElement }>).detail;
    const done = elt.dataset["done"];
    if (successful) {
      if (done) toast(done);
      if (elt.dataset["away"]) location.assign(elt.dataset["away"]);
      else if (done) document.body.dispatchEvent(new Event("work"));
    } else if (xhr.status || elt.dataset["done"]) toast(reason(xhr), "bad");
  });
}

function reason(xhr: XMLHttpRequest): string {
  try {
    const problem = JSON.parse(xhr.responseText) as Problem;
    if (problem.message ?? problem.error) return String(problem.message ?? problem.error);
  } catch {
    // not JSON: the status says enough
  }
  return xhr.status ? `That failed (${xhr.status}).` : "The server does not answer.";
}
