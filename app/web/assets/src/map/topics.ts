// The list of topics: the map's twin for keyboard and screen reader.
import type { Topic } from "./data";

export class TopicList {
  private readonly rows: { topic: Topic; button: HTMLButtonElement; text: string }[];

  constructor(
    list: HTMLElement,
    filter: HTMLInputElement,
    topics: readonly Topic[],
    colour: (topic: Topic) => string,
    chosen: (topic: Topic) => void,
  ) {
    const most = Math.max(1, ...topics.map((topic) => topic.size));
    this.rows = topics.map((topic) => {
      const button = row(topic, most, colour(topic));
      button.addEventListener("click", () => chosen(topic));
      const item = document.createElement("li");
      item.append(button);
      list.append(item);
      return { topic, button, text: [topic.name, ...topic.keywords].join(" ").toLowerCase() };
    });
    filter.addEventListener("input", () => this.narrow(filter.value));
    list.addEventListener("keydown", (event) => this.walk(event));
  }

  mark(id: number | null): void {
    for (const { topic, button } of this.rows) {
      const current = topic.id === id;
      button.setAttribute("aria-pressed", String(current));
      if (current) button.scrollIntoView({ block: "nearest" });
    }
  }

  recolour(colour: (topic: Topic) => string): void {
    for (const { topic, button } of this.rows) {
      (button.firstElementChild as HTMLElement).style.backgroundColor = colour(topic);
    }
  }

  private narrow(text: string): void {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const one of this.rows) {
      one.button.parentElement!.hidden = !words.every((word) => one.text.includes(word));
    }
  }

  private walk(event: KeyboardEvent): void {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const shown = this.rows.filter((one) => !one.button.parentElement!.hidden).map((one) => one.button);
    const at = shown.indexOf(document.activeElement as HTMLButtonElement);
    shown[Math.max(0, Math.min(shown.length - 1, at + step))]?.focus();
  }
}

function row(topic: Topic, most: number, colour: string): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "topic";
  button.setAttribute("aria-pressed", "false");
  button.title = topic.keywords.join(", ");
  const dot = document.createElement("span");
  dot.className = "dot";
  dot.style.backgroundColor = colour;
  const name = document.createElement("span");
  name.className = "topic-name";
  name.textContent = topic.name;
  const size = document.createElement("span");
  size.className = "topic-size number";
  size.textContent = topic.size.toLocaleString("en");
  const bar = document.createElement("span");
  bar.className = "topic-bar";
  bar.style.width = `${Math.max(2, (topic.size / most) * 100)}%`;
  button.append(dot, name, size, bar);
  return button;
}
