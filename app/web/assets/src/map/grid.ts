// Finds points near a place or inside an outline without looking at all of them.
import type { Points } from "./data";

export class Grid {
  private readonly side: number;
  private readonly starts: Uint32Array;
  private readonly order: Uint32Array;

  constructor(private readonly points: Points) {
    this.side = Math.max(1, Math.min(1024, Math.round(Math.sqrt(points.count / 2))));
    const cells = this.side * this.side;
    const counts = new Uint32Array(cells + 1);
    const cellOf = new Uint32Array(points.count);
    for (let i = 0; i < points.count; i++) {
      const cell = this.row(points.y[i]!) * this.side + this.row(points.x[i]!);
      cellOf[i] = cell;
      counts[cell + 1]!++;
    }
    for (let c = 0; c < cells; c++) counts[c + 1]! += counts[c]!;
    this.starts = counts.slice();
    this.order = new Uint32Array(points.count);
    for (let i = 0; i < points.count; i++) this.order[counts[cellOf[i]!]!++] = i;
  }

  /** The point nearest to (x, y) within `radius` for which `allowed` holds, or -1. */
  nearest(x: number, y: number, radius: number, allowed: (i: number) => boolean): number {
    let best = -1;
    let bestSquare = radius * radius;
    this.visit(x - radius, y - radius, x + radius, y + radius, (i) => {
      const square = (this.points.x[i]! - x) ** 2 + (this.points.y[i]! - y) ** 2;
      if (square <= bestSquare && allowed(i)) {
        best = i;
        bestSquare = square;
      }
    });
    return best;
  }

  /** All points inside a closed outline given as x, y, x, y, … */
  inside(outline: readonly number[], allowed: (i: number) => boolean): number[] {
    let [left, low, right, high] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let k = 0; k < outline.length; k += 2) {
      left = Math.min(left, outline[k]!);
      right = Math.max(right, outline[k]!);
      low = Math.min(low, outline[k + 1]!);
      high = Math.max(high, outline[k + 1]!);
    }
    const found: number[] = [];
    this.visit(left, low, right, high, (i) => {
      if (allowed(i) && contains(outline, this.points.x[i]!, this.points.y[i]!)) found.push(i);
    });
    return found;
  }

  private visit(left: number, low: number, right: number, high: number, see: (i: number) => void): void {
    for (let r = this.row(low); r <= this.row(high); r++) {
      for (let c = this.row(left); c <= this.row(right); c++) {
        const cell = r * this.side + c;
        for (let k = this.starts[cell]!; k < this.starts[cell + 1]!; k++) see(this.order[k]!);
      }
    }
  }

  private row(value: number): number {
    return Math.max(0, Math.min(this.side - 1, Math.floor(((value + 1) / 2) * this.side)));
  }
}

/** Even-odd rule. */
export function contains(outline: readonly number[], x: number, y: number): boolean {
  let inside = false;
  const n = outline.length;
  for (let k = 0, j = n - 2; k < n; j = k, k += 2) {
    const [ax, ay, bx, by] = [outline[k]!, outline[k + 1]!, outline[j]!, outline[j + 1]!];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
