// Follows running work: one event stream per page; parts of the page that listen for "work" read themselves
// again, at most once a second. Without the stream, or while something runs, the clock does it. What happened
// while the stream was interrupted may never be told, so the parts also read themselves when it is back.
const SHORTEST_MS = 1000;
const BUSY_MS = 3000;
const SILENT_MS = 15_000;

export function followWork(): void {
  if (!document.querySelector("[data-live]")) return;
  let last = 0;
  let timer = 0;
  let connected = false;

  const refresh = (): void => {
    clearTimeout(timer);
    const wait = Math.max(0, last + SHORTEST_MS - Date.now());
    timer = window.setTimeout(() => {
      last = Date.now();
      if (!document.hidden) document.body.dispatchEvent(new Event("work"));
      tick();
    }, wait);
  };

  const tick = (): void => {
    clearTimeout(timer);
    const busy = document.querySelector("[data-live=busy]") !== null;
    timer = window.setTimeout(refresh, busy ? BUSY_MS : connected ? SILENT_MS * 4 : SILENT_MS);
  };

  const listen = (): EventSource => {
    const source = new EventSource("/api/events");
    let interrupted = false;
    source.addEventListener("open", () => (connected = true));
    source.addEventListener("error", () => {
      connected = false;
      interrupted = true;
    });
    source.addEventListener("connected", () => {
      if (interrupted) refresh();
      interrupted = false;
    });
    source.addEventListener("status", refresh);
    source.addEventListener("reset", refresh);
    return source;
  };

  let source = listen();
  window.addEventListener("pagehide", () => source.close());
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return; // a page that the browser had put away is as old as that
    source = listen();
    refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
  document.body.addEventListener("worksoon", refresh);
  tick();
}
