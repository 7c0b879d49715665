// Names of topics on the map: larger topics first, as many as fit without touching each other.
import type { Camera } from "./camera";
import type { Topic } from "./data";

interface Label {
  topic: Topic;
  /** How far the topic reaches from its middle, in units of the map. */
  reach: number;
  element: HTMLButtonElement;
  width: number;
  height: number;
}

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

const [SMALLEST, LARGEST, GAP] = [12, 19, 5];

export class Labels {
  private readonly labels: Label[];

  constructor(
    private readonly layer: HTMLElement,
    topics: readonly Topic[],
    reach: ReadonlyMap<number, number>,
    chosen: (topic: Topic) => void,
  ) {
    const most = Math.max(1, ...topics.map((topic) => topic.size));
    this.labels = topics.map((topic) => {
      const element = document.createElement("button");
      element.type = "button";
      element.className = "map-label";
      element.tabIndex = -1;
      for (const [k, line] of wrap(topic.name).entries()) {
        if (k) element.append(document.createElement("br"));
        element.append(line);
      }
      const size = SMALLEST + (LARGEST - SMALLEST) * Math.sqrt(topic.size / most);
      element.style.fontSize = `${size.toFixed(1)}px`;
      element.style.fontWeight = size > 15 ? "650" : "550";
      element.addEventListener("click", () => chosen(topic));
      layer.append(element);
      return { topic, element, reach: reach.get(topic.id) ?? 0, width: element.offsetWidth, height: element.offsetHeight };
    });
  }

  measure(): void {
    for (const label of this.labels) {
      label.width = label.element.offsetWidth;
      label.height = label.element.offsetHeight;
    }
  }

  /** Places names; the topic `first` comes before all others, and no name touches a box in `kept`. */
  place(camera: Camera, first: number | null, kept: readonly Box[]): void {
    const taken: Box[] = [...kept];
    const order = first === null ? this.labels : [...this.labels].sort((a, b) => rank(a, first) - rank(b, first));
    const limit = Math.round(16 + 10 * Math.log2(Math.max(1, camera.zoom)) + camera.width / 120);
    for (const label of order) {
      const [px, middle] = camera.toScreen(label.topic.x, label.topic.y);
      const py = middle - lift(label, camera);
      const box = {
        left: px - label.width / 2 - GAP,
        right: px + label.width / 2 + GAP,
        top: py - label.height / 2 - GAP,
        bottom: py + label.height / 2 + GAP,
      };
      const fits =
        taken.length < limit + kept.length &&
        box.left > 0 &&
        box.right < camera.width &&
        box.top > 0 &&
        box.bottom < camera.height &&
        !taken.some((other) => touch(box, other));
      label.element.classList.toggle("shown", fits);
      label.element.classList.toggle("chosen", label.topic.id === first);
      if (!fits) continue;
      taken.push(box);
      const [x, y] = [Math.round(px - label.width / 2), Math.round(py - label.height / 2)];
      label.element.style.transform = `translate(${x}px, ${y}px)`;
    }
    this.layer.dataset["shown"] = String(taken.length - kept.length);
  }
}

const rank = (label: Label, first: number): number => (label.topic.id === first ? 0 : 1);

/** Small topics carry their name above them, large ones in their middle; between the two it slides. */
function lift(label: Label, camera: Camera): number {
  const radius = label.reach * camera.view.scale;
  const part = Math.min(1, Math.max(0, (75 - radius) / 40));
  return part * (radius * 0.8 + label.height / 2 + 2);
}

function touch(a: Box, b: Box): boolean {
  return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

/** Lines of about 18 letters, at most three. */
function wrap(name: string): string[] {
  const lines: string[] = [""];
  for (const word of name.split(/\s+/)) {
    const last = lines[lines.length - 1]!;
    if (!last || last.length + word.length < 18 || lines.length === 3) lines[lines.length - 1] = last ? `${last} ${word}` : word;
    else lines.push(word);
  }
  return lines;
}
