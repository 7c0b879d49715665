// What the page shows, kept in its address: a link restores topic, search, outline, passage and view.
import type { View } from "./camera";

export interface State {
  topic: number | null;
  query: string;
  passage: string;
  outline: number[];
  nearest: boolean;
  view: { x: number; y: number; zoom: number } | null;
}

export function read(): State {
  const given = new URLSearchParams(location.search);
  const topic = given.get("topic");
  const view = numbers(given.get("view"));
  return {
    topic: topic === null || topic === "" ? null : Number(topic),
    query: given.get("q") ?? "",
    passage: given.get("passage") ?? "",
    outline: numbers(given.get("outline")),
    nearest: given.get("nearest") === "1",
    view: view.length === 3 ? { x: view[0]!, y: view[1]!, zoom: view[2]! } : null,
  };
}

let pending = 0;

/** Writes the address at most every 250 ms: browsers refuse more. */
export function write(state: State, view: View, fitScale: number): void {
  clearTimeout(pending);
  pending = window.setTimeout(() => {
    const out = new URLSearchParams();
    if (state.topic !== null) out.set("topic", String(state.topic));
    if (state.query) out.set("q", state.query);
    if (state.passage) out.set("passage", state.passage);
    if (state.outline.length) out.set("outline", state.outline.map(short).join(","));
    if (state.nearest) out.set("nearest", "1");
    const zoom = view.scale / fitScale;
    if (Math.abs(zoom - 1) > 0.01 || Math.abs(view.x) + Math.abs(view.y) > 0.01) {
      out.set("view", [short(view.x), short(view.y), zoom.toFixed(2)].join(","));
    }
    const query = out.toString().replaceAll("%2C", ",");
    history.replaceState(history.state, "", location.pathname + (query ? `?${query}` : ""));
  }, 250);
}

const short = (value: number): string => value.toFixed(3);

function numbers(text: string | null): number[] {
  const found = (text ?? "").split(",").filter(Boolean).map(Number);
  return found.every(Number.isFinite) ? found : [];
}
