// Colours of topics. Ten tones that stay apart for colour-blind eyes, differing in lightness too; topics
// that lie near each other never share one, and names always stand beside the colour.
import type { Topic } from "./data";

export type Rgb = [number, number, number];

const LIGHT = ["#1f6fb2", "#d97b0f", "#168a6f", "#c03b78", "#7452c4", "#9b8a12", "#2fa3cf", "#9c4423", "#58702a", "#dd6a60"];
const DARK = ["#5aa9ee", "#f2a950", "#4fcfae", "#ee79ac", "#ab90f4", "#d9c75a", "#86d4f2", "#da8a66", "#a5bf6a", "#f5a199"];

export function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function rgb(hex: string): Rgb {
  const value = Number.parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export function tones(): string[] {
  return isDark() ? DARK : LIGHT;
}

export const unassigned = (): Rgb => (isDark() ? [110, 124, 130] : [150, 158, 156]);

/** Index into `tones()` per topic id: each topic takes the tone whose nearest bearer is farthest away. */
export function assign(topics: readonly Topic[]): Map<number, number> {
  const given = new Map<number, number>();
  const placed: Topic[] = [];
  for (const topic of topics) {
    const nearest = new Array<number>(LIGHT.length).fill(Infinity);
    for (const other of placed) {
      const tone = given.get(other.id)!;
      const square = (other.x - topic.x) ** 2 + (other.y - topic.y) ** 2;
      if (square < nearest[tone]!) nearest[tone] = square;
    }
    given.set(topic.id, nearest.indexOf(Math.max(...nearest)));
    placed.push(topic);
  }
  return given;
}
