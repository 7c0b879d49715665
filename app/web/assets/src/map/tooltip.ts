// Text of the point under the pointer: its topic at once, its passage as soon as it is read.
interface Passage {
  title: string;
  text: string;
  page: number | null;
}

const WAIT_MS = 90;
const KEPT = 300;

export class Tooltip {
  private readonly kept = new Map<string, Passage>();
  private timer = 0;
  private current = "";

  constructor(
    private readonly box: HTMLElement,
    private readonly url: string,
  ) {}

  hide(): void {
    this.current = "";
    clearTimeout(this.timer);
    this.box.hidden = true;
  }

  show(id: string, topic: string, px: number, py: number, width: number, height: number): void {
    this.place(px, py, width, height);
    if (id === this.current) return;
    this.current = id;
    clearTimeout(this.timer);
    const known = this.kept.get(id);
    this.fill(topic, known);
    this.box.hidden = false;
    if (!known) this.timer = window.setTimeout(() => void this.read(id, topic), WAIT_MS);
  }

  private place(px: number, py: number, width: number, height: number): void {
    const right = px > width / 2;
    const low = py > height / 2;
    this.box.style.left = right ? "" : `${px + 16}px`;
    this.box.style.right = right ? `${width - px + 16}px` : "";
    this.box.style.top = low ? "" : `${py + 12}px`;
    this.box.style.bottom = low ? `${height - py + 12}px` : "";
  }

  private fill(topic: string, passage: Passage | undefined): void {
    const [name, title, text] = this.box.children as unknown as [HTMLElement, HTMLElement, HTMLElement];
    name.textContent = topic;
    title.textContent = passage ? passage.title + (passage.page ? `, page ${passage.page}` : "") : "";
    text.textContent = passage?.text ?? "…";
  }

  private async read(id: string, topic: string): Promise<void> {
    const answer = await fetch(`${this.url}/${id}`).catch(() => null);
    if (!answer?.ok) return;
    const passage = (await answer.json()) as Passage;
    if (this.kept.size >= KEPT) this.kept.delete(this.kept.keys().next().value!);
    this.kept.set(id, passage);
    if (this.current === id) this.fill(topic, passage);
  }
}
