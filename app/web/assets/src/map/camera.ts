// Where on the map the window looks, and how that moves.

export interface View {
  x: number;
  y: number;
  /** Pixels per unit of the map. */
  scale: number;
}

const FLIGHT_MS = 350;

export class Camera {
  view: View = { x: 0, y: 0, scale: 1 };
  width = 1;
  height = 1;
  /** Scale at which the complete map fits. */
  fitScale = 1;
  /** Half the width and height of what is on the map. */
  extent: [number, number] = [1, 1];
  private flight = 0;

  constructor(private readonly changed: () => void) {}

  resize(width: number, height: number): void {
    const zoom = this.view.scale / this.fitScale;
    this.width = width;
    this.height = height;
    this.fitScale = (Math.max(1, Math.min(width / this.extent[0], height / this.extent[1])) * 0.88) / 2;
    this.view.scale = this.fitScale * zoom;
    this.changed();
  }

  get zoom(): number {
    return this.view.scale / this.fitScale;
  }

  toScreen(x: number, y: number): [number, number] {
    return [
      (x - this.view.x) * this.view.scale + this.width / 2,
      this.height / 2 - (y - this.view.y) * this.view.scale,
    ];
  }

  toMap(px: number, py: number): [number, number] {
    return [
      (px - this.width / 2) / this.view.scale + this.view.x,
      (this.height / 2 - py) / this.view.scale + this.view.y,
    ];
  }

  panBy(dx: number, dy: number): void {
    this.stop();
    this.set({ ...this.view, x: this.view.x - dx / this.view.scale, y: this.view.y + dy / this.view.scale });
  }

  /** Zooms so that the point of the map under (px, py) stays there. */
  zoomAt(factor: number, px = this.width / 2, py = this.height / 2): void {
    this.stop();
    const [x, y] = this.toMap(px, py);
    const scale = this.clamp(this.view.scale * factor);
    this.set({ x: x - (px - this.width / 2) / scale, y: y + (py - this.height / 2) / scale, scale });
  }

  set(view: View): void {
    this.view = {
      x: Math.min(1.3, Math.max(-1.3, view.x)),
      y: Math.min(1.3, Math.max(-1.3, view.y)),
      scale: this.clamp(view.scale),
    };
    this.changed();
  }

  fit(): void {
    this.flyTo({ x: 0, y: 0, scale: this.fitScale });
  }

  /** Flies to a rectangle of the map; a new movement of any kind ends the flight. */
  flyToBox(left: number, low: number, right: number, high: number): void {
    const scale = Math.min(
      (this.width * 0.7) / Math.max(right - left, 1e-3),
      (this.height * 0.7) / Math.max(high - low, 1e-3),
      this.fitScale * 12,
    );
    this.flyTo({ x: (left + right) / 2, y: (low + high) / 2, scale });
  }

  flyTo(to: View): void {
    this.stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.set(to);
      return;
    }
    const from = { ...this.view };
    const started = performance.now();
    const step = (now: number): void => {
      const t = Math.min(1, (now - started) / FLIGHT_MS);
      const ease = 1 - (1 - t) ** 3;
      this.set({
        x: from.x + (to.x - from.x) * ease,
        y: from.y + (to.y - from.y) * ease,
        scale: from.scale * (to.scale / from.scale) ** ease,
      });
      if (t < 1) this.flight = requestAnimationFrame(step);
    };
    this.flight = requestAnimationFrame(step);
  }

  stop(): void {
    cancelAnimationFrame(this.flight);
  }

  private clamp(scale: number): number {
    return Math.min(this.fitScale * 400, Math.max(this.fitScale * 0.6, scale));
  }
}
