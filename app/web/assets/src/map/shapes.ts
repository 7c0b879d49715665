// Measures of topics and outlines.
import type { Points, Topic } from "./data";

/** How far each topic reaches from its middle: the distance within which most of its points lie. */
export function reaches(points: Points, topics: readonly Topic[]): Map<number, number> {
  const middle = new Map(topics.map((topic) => [topic.id, topic]));
  const sums = new Map<number, number>();
  for (let i = 0; i < points.count; i++) {
    const topic = middle.get(points.cluster[i]!);
    if (topic) sums.set(topic.id, (sums.get(topic.id) ?? 0) + Math.hypot(points.x[i]! - topic.x, points.y[i]! - topic.y));
  }
  return new Map(topics.map((topic) => [topic.id, (1.1 * (sums.get(topic.id) ?? 0)) / Math.max(1, topic.size)]));
}

/** At most `most` corners of an outline, evenly taken. */
export function thin(outline: readonly number[], most: number): number[] {
  const corners = outline.length / 2;
  const step = Math.max(1, Math.ceil(corners / most));
  return outline.filter((_, k) => Math.floor(k / 2) % step === 0);
}
