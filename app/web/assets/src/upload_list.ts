// Shows uploads: one line for all of them, then those that run or failed; what is done steps aside.
import type { Upload } from "./upload";

const MOST_ROWS = 8;

export function bytes(value: number): string {
  const units = ["bytes", "KB", "MB", "GB"];
  let unit = 0;
  let left = value;
  while (left >= 1000 && unit < units.length - 1) {
    left /= 1000;
    unit++;
  }
  return `${unit && left < 10 ? left.toFixed(1) : Math.round(left)} ${units[unit]}`;
}

export class UploadList {
  onRetry: (upload: Upload) => void = () => undefined;
  private started = 0;
  private frame = 0;

  constructor(private readonly box: HTMLElement) {}

  show(uploads: readonly Upload[]): void {
    this.started ||= performance.now();
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw(uploads));
  }

  private draw(uploads: readonly Upload[]): void {
    const done = uploads.filter((one) => one.state === "done").length;
    const failed = uploads.filter((one) => one.state === "failed");
    const running = uploads.filter((one) => one.state === "sending");
    const total = uploads.reduce((sum, one) => sum + one.file.size, 0);
    const sent = uploads.reduce((sum, one) => sum + (one.state === "failed" ? one.file.size : one.sent), 0);
    const over = done + failed.length === uploads.length;
    this.box.hidden = uploads.length === 0;
    const head = line(
      over ? `${done} of ${uploads.length} files uploaded` : `Uploading: ${done} of ${uploads.length} files`,
      over ? bytes(total) : `${bytes(sent)} of ${bytes(total)}${this.timeLeft(sent, total)}`,
      total ? sent / total : 1,
    );
    head.classList.add("upload-all");
    const rows = [...running, ...failed].slice(0, MOST_ROWS).map((one) => this.row(one));
    this.box.replaceChildren(head, ...rows);
    if (failed.length > MOST_ROWS) this.box.append(`… and ${failed.length - MOST_ROWS} more refused`);
    if (over) this.started = 0;
  }

  private timeLeft(sent: number, total: number): string {
    const seconds = (performance.now() - this.started) / 1000;
    if (seconds < 3 || !sent) return "";
    const left = ((total - sent) / sent) * seconds;
    return left < 60 ? `, ${Math.ceil(left)} s left` : `, ${Math.round(left / 60)} min left`;
  }

  private row(upload: Upload): HTMLElement {
    if (upload.state === "sending") {
      return line(upload.name, `${bytes(upload.sent)} of ${bytes(upload.file.size)}`, upload.sent / Math.max(1, upload.file.size));
    }
    const row = line(upload.name, upload.reason, null);
    row.classList.add("refused");
    const again = document.createElement("button");
    again.type = "button";
    again.className = "button small";
    again.textContent = "Try again";
    again.addEventListener("click", () => this.onRetry(upload));
    row.append(again);
    return row;
  }
}

function line(name: string, note: string, share: number | null): HTMLElement {
  const row = document.createElement("div");
  row.className = "upload-row";
  const title = document.createElement("span");
  title.className = "clip";
  title.textContent = name;
  const side = document.createElement("span");
  side.className = "upload-note number";
  side.textContent = note;
  row.append(title, side);
  if (share !== null) {
    const bar = document.createElement("progress");
    bar.value = share;
    bar.setAttribute("aria-label", name);
    row.append(bar);
  }
  return row;
}
