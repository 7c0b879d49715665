// The map's behaviour: what is chosen, how it is coloured, and what the panel tells about it.
import { Camera } from "./camera";
import type { Points, Topic } from "./data";
import { idOf, indexById } from "./data";
import { Grid } from "./grid";
import { Input } from "./input";
import { type Box, Labels } from "./labels";
import { type Rgb, assign, rgb, tones, unassigned } from "./palette";
import { type Renderer, createRenderer, pointSize } from "./renderer";
import { type Found, search } from "./search";
import { reaches, thin } from "./shapes";
import { Panel } from "./selection";
import { type State, read, write } from "./state";
import { Tooltip } from "./tooltip";
import { TopicList } from "./topics";

const count = (value: number, word: string): string =>
  `${value.toLocaleString("en")} ${word}${value === 1 ? "" : "s"}`;

export class MapView {
  private readonly camera: Camera;
  private readonly canvas: HTMLCanvasElement;
  private readonly area: HTMLElement;
  private readonly state: State = read();
  private readonly grid: Grid;
  private readonly byId: Map<number, Topic>;
  private readonly tone: Map<number, number>;
  private readonly input: Input;
  private readonly panel: Panel;
  private readonly list: TopicList;
  private readonly tooltip: Tooltip;
  private readonly labels: Labels;
  private renderer: Renderer;
  private chosen: readonly number[] = [];
  private index: Map<string, number> | null = null;
  /** Where buttons lie over the map: no name is put under them. */
  private controls: Box[] = [];
  private frame = 0;

  constructor(
    private readonly root: HTMLElement,
    private readonly points: Points,
    topics: readonly Topic[],
    extent: [number, number],
  ) {
    this.canvas = this.find("canvas");
    this.area = this.part("area");
    this.camera = new Camera(() => this.schedule());
    this.camera.extent = extent;
    this.grid = new Grid(points);
    this.byId = new Map(topics.map((topic) => [topic.id, topic]));
    this.tone = assign(topics);
    this.renderer = createRenderer(this.canvas, points);
    const colour = (topic: Topic): string => this.colour(topic);
    const choose = (topic: Topic): void => this.showTopic(this.state.topic === topic.id ? null : topic);
    this.labels = new Labels(this.part("labels"), topics, reaches(points, topics), choose);
    this.list = new TopicList(this.part("topics"), this.find("[data-part=topic-filter]"), topics, colour, choose);
    this.tooltip = new Tooltip(this.part("tooltip"), root.dataset["passages"]!);
    this.panel = new Panel(this.part("panel"), points, this.byId, colour, root.dataset["passages"]!, {
      showTopic: (topic) => this.showTopic(topic),
    });
    this.input = new Input(this.area, this.camera, {
      point: (px, py) => this.hover(px, py),
      leave: () => this.tooltip.hide(),
      choose: (px, py) => this.choosePoint(px, py),
      outline: (path) => this.showOutline(path),
      drawing: (path) => this.drawLasso(path),
      escape: () => this.clear(),
      fit: () => this.camera.fit(),
      toggleLasso: () => this.setLasso(!this.input.lasso),
    });
  }

  begin(): void {
    this.part("renderer").textContent = this.renderer.name;
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.renderer = createRenderer(this.canvas, this.points);
      this.paint();
    });
    new ResizeObserver(() => this.resize()).observe(this.area);
    this.resize();
    void document.fonts.ready.then(() => {
      this.labels.measure();
      this.schedule();
    });
    this.wireControls();
    for (const source of [matchMedia("(prefers-color-scheme: dark)")]) {
      source.addEventListener("change", () => this.repaintTheme());
    }
    document.addEventListener("themechange", () => this.repaintTheme());
    this.restore();
  }

  private find<T extends Element>(selector: string): T {
    const found = this.root.querySelector<T>(selector);
    if (!found) throw new Error(`The page lacks ${selector}.`);
    return found;
  }

  private part(name: string): HTMLElement {
    return this.find(`[data-part="${name}"]`);
  }

  private restore(): void {
    const { topic, query, outline, passage, view } = this.state;
    this.find<HTMLInputElement>("[data-part=nearest]").checked = this.state.nearest;
    this.paint();
    if (topic !== null && this.byId.has(topic)) this.showTopic(this.byId.get(topic)!, !view);
    else if (outline.length >= 6) this.showOutline(outline);
    else if (query) void this.runSearch(query, passage);
    else if (passage) this.showPassage(passage);
    if (view) this.camera.set({ x: view.x, y: view.y, scale: view.zoom * this.camera.fitScale });
  }

  private wireControls(): void {
    const act: Record<string, () => void> = {
      in: () => this.camera.zoomAt(1.6),
      out: () => this.camera.zoomAt(1 / 1.6),
      fit: () => this.camera.fit(),
      lasso: () => this.setLasso(!this.input.lasso),
      close: () => this.clear(),
      list: () => this.root.classList.toggle("list-open"),
    };
    this.root.addEventListener("click", (event) => {
      const name = (event.target as Element).closest<HTMLElement>("[data-do]")?.dataset["do"];
      if (name) act[name]?.();
    });
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && event.target !== this.area) this.clear();
    });
    const form = this.find<HTMLFormElement>("form[data-part=search]");
    const field = this.find<HTMLInputElement>("form[data-part=search] input");
    field.value = this.state.query;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim()) void this.runSearch(field.value.trim(), "");
      else this.clear();
    });
    this.find<HTMLInputElement>("[data-part=nearest]").addEventListener("change", (event) => {
      this.state.nearest = (event.target as HTMLInputElement).checked;
      this.paint();
      this.remember();
    });
  }

  // --- choosing -------------------------------------------------------------------------------------

  private showTopic(topic: Topic | null, fly = true): void {
    if (!topic) {
      this.clear();
      return;
    }
    const members = this.indices((i) => this.topicOf(i) === topic.id);
    const first = new Set(topic.exemplars);
    const order = members.sort((a, b) => Number(first.has(idOf(this.points, b))) - Number(first.has(idOf(this.points, a))));
    this.forget();
    this.state.topic = topic.id;
    this.choose(order);
    if (fly) this.flyTo(members);
    this.tell(topic.name, `${count(members.length, "passage")} from ${this.documents(members)}`, topic.keywords);
  }

  private showOutline(outline: number[]): void {
    const found = this.grid.inside(outline, () => true);
    this.setLasso(false);
    if (!found.length) {
      this.announce("No passage lies inside the outline.");
      return;
    }
    this.forget();
    this.state.outline = thin(outline, 80);
    this.choose(found);
    this.tell("Selection", `${count(found.length, "passage")} from ${this.documents(found)}`, this.keywordsOf(found));
  }

  private choosePoint(px: number, py: number): void {
    const i = this.under(px, py);
    if (i >= 0) this.showPassage(idOf(this.points, i), false);
    else this.clear();
  }

  private showPassage(id: string, fly = true): void {
    const i = this.lookUp(id);
    if (i === undefined) {
      this.announce("This passage is not on the map yet.");
      return;
    }
    this.forget();
    this.state.passage = id;
    this.choose([i]);
    if (fly) this.flyTo(this.around(i));
    const topic = this.byId.get(this.topicOf(i));
    this.tell("Passage", topic ? `In the topic “${topic.name}”` : "In no topic", topic?.keywords ?? []);
  }

  private async runSearch(query: string, passage: string): Promise<void> {
    this.announce("Searching…");
    let found: Found;
    try {
      found = await search(this.root.dataset["embedded"]!, query);
    } catch (error) {
      this.announce(error instanceof Error ? error.message : "The search failed.");
      return;
    }
    const known = found.ids.map((id) => this.lookUp(id)).filter((i) => i !== undefined);
    this.forget();
    this.state.query = query;
    this.find<HTMLInputElement>("form[data-part=search] input").value = query;
    this.choose(known);
    const spot = passage ? this.lookUp(passage) : undefined;
    if (spot !== undefined) this.flyTo(this.around(spot));
    else if (known.length) this.camera.fit();
    this.tell(`“${query}”`, known.length ? `${count(known.length, "best passage")}, best first` : "Nothing found on this map", []);
  }

  private clear(): void {
    this.setLasso(false);
    this.forget();
    this.find<HTMLInputElement>("form[data-part=search] input").value = "";
    this.chosen = [];
    this.panel.close();
    this.root.classList.remove("panel-open", "list-open");
    this.list.mark(null);
    this.paint();
    this.remember();
  }

  private forget(): void {
    Object.assign(this.state, { topic: null, query: "", passage: "", outline: [] });
  }

  private choose(points: readonly number[]): void {
    this.chosen = points;
    // The panel takes its place before anything flies, so that flights end in what is left of the map.
    this.root.classList.add("panel-open");
    this.part("panel").hidden = false;
    this.resize();
    this.list.mark(this.state.topic);
    this.root.classList.remove("list-open");
    this.paint();
    this.remember();
  }

  private tell(title: string, note: string, keywords: readonly string[]): void {
    this.announce(`${title}: ${note}`);
    void this.panel.show({ title, note, points: this.chosen, keywords, query: this.state.query });
  }

  private announce(text: string): void {
    this.part("live").textContent = text;
  }

  // --- reading the points -----------------------------------------------------------------------------

  private topicOf(i: number): number {
    const own = this.points.cluster[i]!;
    return own < 0 && this.state.nearest ? this.points.nearest[i]! : own;
  }

  private indices(holds: (i: number) => boolean): number[] {
    const found: number[] = [];
    for (let i = 0; i < this.points.count; i++) if (holds(i)) found.push(i);
    return found;
  }

  private lookUp(id: string): number | undefined {
    this.index ??= indexById(this.points);
    return this.index.get(id);
  }

  private around(i: number): number[] {
    const [x, y] = [this.points.x[i]!, this.points.y[i]!];
    const r = 0.12;
    return [i, ...this.grid.inside([x - r, y - r, x + r, y - r, x + r, y + r, x - r, y + r], () => true)];
  }

  private documents(points: readonly number[]): string {
    return count(new Set(points.map((i) => this.points.document[i]!)).size, "document");
  }

  /** The leading words of the topics that make up most of some points. */
  private keywordsOf(points: readonly number[]): string[] {
    const counts = new Map<number, number>();
    for (const i of points) counts.set(this.topicOf(i), (counts.get(this.topicOf(i)) ?? 0) + 1);
    const largest = [...counts].filter(([id]) => id >= 0).sort((a, b) => b[1] - a[1]).slice(0, 4);
    const each = Math.ceil(8 / Math.max(1, largest.length));
    return [...new Set(largest.flatMap(([id]) => this.byId.get(id)?.keywords.slice(0, each) ?? []))];
  }

  private under(px: number, py: number): number {
    const [x, y] = this.camera.toMap(px, py);
    const reach = (pointSize(this.points.count, this.camera.zoom) / 2 + 6) / this.camera.view.scale;
    return this.grid.nearest(x, y, reach, () => true);
  }

  private hover(px: number, py: number): void {
    const i = this.input.lasso ? -1 : this.under(px, py);
    this.area.classList.toggle("pointing", i >= 0);
    if (i < 0) {
      this.tooltip.hide();
      return;
    }
    const name = this.byId.get(this.topicOf(i))?.name ?? "No topic";
    this.tooltip.show(idOf(this.points, i), name, px, py, this.camera.width, this.camera.height);
  }

  // --- drawing ----------------------------------------------------------------------------------------

  private colour(topic: Topic): string {
    return tones()[this.tone.get(topic.id) ?? 0]!;
  }

  private paint(): void {
    const { count: n } = this.points;
    const palette = tones().map(rgb);
    const grey = unassigned();
    const few = this.chosen.length > 0;
    const colours = new Uint8Array(n * 4);
    const base = n > 50_000 ? 150 : n > 8_000 ? 190 : 215;
    for (let i = 0; i < n; i++) {
      const topic = this.topicOf(i);
      const tone: Rgb = topic < 0 ? grey : palette[this.tone.get(topic) ?? 0]!;
      const alpha = few ? 34 : topic < 0 ? base * 0.4 : this.points.cluster[i]! < 0 ? base * 0.6 : base;
      colours.set([tone[0], tone[1], tone[2], alpha], i * 4);
    }
    for (const i of this.chosen) colours[i * 4 + 3] = 235;
    const raised = this.chosen.length <= 200 || this.state.query ? this.chosen : [];
    const ink = getComputedStyle(this.root).color.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0];
    const ring: Rgb = [ink[0]! / 255, ink[1]! / 255, ink[2]! / 255];
    this.renderer.setLook({ colours, raised: Uint32Array.from(raised), ring });
    this.schedule();
  }

  private repaintTheme(): void {
    this.list.recolour((topic) => this.colour(topic));
    this.paint();
  }

  private flyTo(points: readonly number[]): void {
    if (!points.length) return;
    const xs = Float32Array.from(points, (i) => this.points.x[i]!).sort();
    const ys = Float32Array.from(points, (i) => this.points.y[i]!).sort();
    const cut = Math.floor(points.length * 0.05);
    const last = points.length - 1 - cut;
    this.camera.flyToBox(xs[cut]!, ys[cut]!, xs[last]!, ys[last]!);
  }

  private setLasso(on: boolean): void {
    this.input.lasso = on;
    this.area.classList.toggle("drawing", on);
    this.find("[data-do=lasso]").setAttribute("aria-pressed", String(on));
    if (on) this.announce("Draw an outline around passages.");
  }

  private drawLasso(path: readonly number[]): void {
    this.find<SVGPolygonElement>("[data-part=lasso] polygon").setAttribute("points", path.join(" "));
  }

  private drawOutline(): void {
    const path = this.state.outline.flatMap((_, k, all) => (k % 2 ? [] : this.camera.toScreen(all[k]!, all[k + 1]!)));
    this.find<SVGPolygonElement>("[data-part=outline] polygon").setAttribute("points", path.map((v) => v.toFixed(1)).join(" "));
  }

  private resize(): void {
    const { clientWidth: width, clientHeight: height } = this.area;
    const ratio = Math.min(2, devicePixelRatio);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const corner = this.area.getBoundingClientRect();
    this.controls = [...this.root.querySelectorAll("[data-over]")].map((over) => {
      const box = over.getBoundingClientRect();
      return {
        left: box.left - corner.left,
        right: box.right - corner.left,
        top: box.top - corner.top,
        bottom: box.bottom - corner.top,
      };
    });
    this.camera.resize(width, height);
  }

  private schedule(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => {
      this.renderer.draw(this.camera, Math.min(2, devicePixelRatio));
      this.labels.place(this.camera, this.state.topic, this.controls);
      this.drawOutline();
      this.remember();
    });
  }

  private remember(): void {
    write(this.state, this.camera.view, this.camera.fitScale);
  }
}
