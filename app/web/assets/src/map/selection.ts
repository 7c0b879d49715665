// The panel beside the map: what was chosen, its topics, and its passages, read from the server by page.
import type { Points, Topic } from "./data";
import { idOf } from "./data";

export interface Chosen {
  title: string;
  note: string;
  points: readonly number[];
  keywords: readonly string[];
  /** Words to light in the passages. */
  query: string;
}

const PAGE = 20;

export class Panel {
  private run = 0;

  constructor(
    private readonly panel: HTMLElement,
    private readonly points: Points,
    private readonly topics: ReadonlyMap<number, Topic>,
    private readonly colour: (topic: Topic) => string,
    private readonly url: string,
    private readonly token: { showTopic(topic: Topic): void },
  ) {}

  get isOpen(): boolean {
    return !this.panel.hidden;
  }

  close(): void {
    this.run++;
    this.panel.hidden = true;
  }

  async show(chosen: Chosen): Promise<void> {
    const run = ++this.run;
    this.panel.hidden = false;
    this.part("title").textContent = chosen.title;
    this.part("note").textContent = chosen.note;
    this.fillTopics(chosen.points);
    this.part("keywords").replaceChildren(...chosen.keywords.map((word) => element("span", "badge", word)));
    const list = this.part("passages");
    list.replaceChildren(...[1, 2, 3].map(() => element("div", "skeleton passage-skeleton", "")));
    await this.more(list, chosen, 0, run);
  }

  private part(name: string): HTMLElement {
    return this.panel.querySelector<HTMLElement>(`[data-part="${name}"]`)!;
  }

  private fillTopics(points: readonly number[]): void {
    const counts = new Map<number, number>();
    for (const i of points) {
      const topic = this.points.cluster[i]!;
      counts.set(topic, (counts.get(topic) ?? 0) + 1);
    }
    const largest = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6);
    const rows = counts.size < 2 ? [] : largest.map(([id, count]) => this.share(id, count / points.length));
    this.part("topics-shares").replaceChildren(...rows);
  }

  private share(id: number, part: number): HTMLElement {
    const topic = this.topics.get(id);
    const row = element(topic ? "button" : "div", "share", "");
    const dot = element("span", "dot", "");
    if (topic) {
      dot.style.backgroundColor = this.colour(topic);
      (row as HTMLButtonElement).type = "button";
      row.addEventListener("click", () => this.token.showTopic(topic));
    }
    row.append(dot, element("span", "clip", topic?.name ?? "No topic"), element("span", "number", `${Math.round(part * 100)} %`));
    return row;
  }

  private async more(list: HTMLElement, chosen: Chosen, from: number, run: number): Promise<void> {
    const ids = chosen.points.slice(from, from + PAGE).map((i) => idOf(this.points, i));
    let html: string;
    try {
      const answer = await fetch(this.url, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ ids, query: chosen.query }),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      html = await answer.text();
    } catch {
      if (run === this.run) this.fail(list, chosen, from, run);
      return;
    }
    if (run !== this.run) return;
    if (from === 0) list.replaceChildren();
    list.insertAdjacentHTML("beforeend", html);
    const left = chosen.points.length - from - PAGE;
    if (left > 0) this.addButton(list, `Show more (${left.toLocaleString("en")} left)`, () => this.more(list, chosen, from + PAGE, run));
  }

  private fail(list: HTMLElement, chosen: Chosen, from: number, run: number): void {
    if (from === 0) list.replaceChildren();
    list.append(element("p", "soft small", "The passages could not be read."));
    this.addButton(list, "Try again", () => this.more(list, chosen, from, run));
  }

  private addButton(list: HTMLElement, text: string, act: () => Promise<void>): void {
    const button = element("button", "button small", text) as HTMLButtonElement;
    button.type = "button";
    button.addEventListener("click", () => {
      button.remove();
      void act();
    });
    list.append(button);
  }
}

export function element(tag: string, className: string, text: string): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
