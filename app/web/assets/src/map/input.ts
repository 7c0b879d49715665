// Mouse, touch and keyboard on the map: panning, zooming, pointing, drawing an outline.
import type { Camera } from "./camera";

export interface Wishes {
  point(px: number, py: number): void;
  leave(): void;
  choose(px: number, py: number): void;
  outline(path: number[]): void;
  drawing(path: readonly number[]): void;
  escape(): void;
  fit(): void;
  toggleLasso(): void;
}

const CLICK_SLOP = 5;
const PAN_STEP = 80;
const FEWEST_CORNERS = 6;

export class Input {
  lasso = false;
  private readonly fingers = new Map<number, [number, number]>();
  private path: number[] = [];
  private travelled = 0;
  private spread = 0;

  constructor(
    private readonly area: HTMLElement,
    private readonly camera: Camera,
    private readonly wishes: Wishes,
  ) {
    area.addEventListener("pointerdown", (event) => this.down(event));
    area.addEventListener("pointermove", (event) => this.move(event));
    area.addEventListener("pointerup", (event) => this.up(event));
    area.addEventListener("pointercancel", (event) => this.fingers.delete(event.pointerId));
    area.addEventListener("pointerleave", () => wishes.leave());
    area.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    area.addEventListener("dblclick", (event) => camera.zoomAt(2, ...this.at(event)));
    area.addEventListener("keydown", (event) => this.key(event));
  }

  private at(event: MouseEvent): [number, number] {
    const box = this.area.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  private down(event: PointerEvent): void {
    if (event.button !== 0) return;
    this.area.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, this.at(event));
    this.travelled = 0;
    this.spread = 0;
    this.path = this.lasso || event.shiftKey ? [...this.at(event)] : [];
    this.camera.stop();
  }

  private move(event: PointerEvent): void {
    const [px, py] = this.at(event);
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      this.wishes.point(px, py);
      return;
    }
    this.fingers.set(event.pointerId, [px, py]);
    this.travelled += Math.hypot(px - before[0], py - before[1]);
    if (this.fingers.size === 2) this.pinch();
    else if (this.path.length) {
      const [lx, ly] = [this.path.at(-2)!, this.path.at(-1)!];
      if (Math.hypot(px - lx, py - ly) > 4) this.path.push(px, py);
      this.wishes.drawing(this.path);
    } else if (this.travelled > CLICK_SLOP) this.camera.panBy(px - before[0], py - before[1]);
  }

  private pinch(): void {
    const [a, b] = [...this.fingers.values()] as [[number, number], [number, number]];
    const spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (this.spread) this.camera.zoomAt(spread / this.spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    this.spread = spread;
    this.path = [];
  }

  private up(event: PointerEvent): void {
    if (!this.fingers.delete(event.pointerId)) return;
    this.spread = 0;
    const path = this.path;
    this.path = [];
    this.wishes.drawing([]);
    if (path.length >= FEWEST_CORNERS) {
      this.wishes.outline(path.flatMap((_, k) => (k % 2 ? [] : this.camera.toMap(path[k]!, path[k + 1]!))));
    } else if (this.travelled <= CLICK_SLOP) this.wishes.choose(...this.at(event));
  }

  private wheel(event: WheelEvent): void {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.camera.zoomAt(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), ...this.at(event));
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act: Record<string, () => void> = {
      ArrowLeft: () => this.camera.panBy(PAN_STEP, 0),
      ArrowRight: () => this.camera.panBy(-PAN_STEP, 0),
      ArrowUp: () => this.camera.panBy(0, PAN_STEP),
      ArrowDown: () => this.camera.panBy(0, -PAN_STEP),
      "+": () => this.camera.zoomAt(1.4),
      "=": () => this.camera.zoomAt(1.4),
      "-": () => this.camera.zoomAt(1 / 1.4),
      "0": () => this.wishes.fit(),
      l: () => this.wishes.toggleLasso(),
      Escape: () => this.wishes.escape(),
    };
    const chosen = act[event.key];
    if (!chosen) return;
    event.preventDefault();
    chosen();
  }
}
