// Drop zone: files and whole folders, a few at a time, with bytes per file, and a reason for each refusal.
import { toast } from "./toast";
import { UploadList } from "./upload_list";

export interface Upload {
  file: File;
  name: string;
  sent: number;
  state: "waiting" | "sending" | "done" | "failed";
  reason: string;
}

const AT_ONCE = 3;

interface Outcome {
  completed?: { unchanged?: boolean }[];
  failed?: { name: string; error: string }[];
  message?: string;
}

export function setUpUploads(): void {
  const zone = document.querySelector<HTMLElement>("[data-upload]");
  if (!zone) return;
  const queue = new Queue(zone.dataset["upload"]!, new UploadList(document.getElementById("uploads")!));
  for (const input of zone.querySelectorAll<HTMLInputElement>("input[type=file]")) {
    input.addEventListener("change", () => {
      queue.add([...(input.files ?? [])].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
      input.value = "";
    });
  }
  setUpDrop(zone, queue);
}

function setUpDrop(zone: HTMLElement, queue: Queue): void {
  let depth = 0;
  const mark = (change: number): void => {
    depth = Math.max(0, depth + change);
    zone.classList.toggle("over", depth > 0);
  };
  window.addEventListener("dragenter", (event) => {
    if (event.dataTransfer?.types.includes("Files")) mark(1);
  });
  window.addEventListener("dragleave", () => mark(-1));
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    mark(0);
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry()).filter((one) => one !== null);
    // Without entries (text editors, some desktops) the plain list of files is all there is.
    const plain = [...(event.dataTransfer?.files ?? [])].map((file) => ({ file, path: file.name }));
    void (entries.length ? walk(entries) : Promise.resolve(plain)).then((found) => queue.add(found));
  });
}

interface Found {
  file: File;
  path: string;
}

async function walk(entries: FileSystemEntry[]): Promise<Found[]> {
  const found: Found[] = [];
  for (const entry of entries) {
    if (entry.isFile) found.push(await fileOf(entry as FileSystemFileEntry));
    else found.push(...(await walk(await childrenOf(entry as FileSystemDirectoryEntry))));
  }
  return found;
}

function fileOf(entry: FileSystemFileEntry): Promise<Found> {
  return new Promise((resolve, reject) => {
    entry.file((file) => resolve({ file, path: entry.fullPath.replace(/^\//, "") }), reject);
  });
}

/** A reader gives at most 100 entries at a time, and an empty list at the end. */
async function childrenOf(entry: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = entry.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return all;
    all.push(...some);
  }
}

class Queue {
  private readonly uploads: Upload[] = [];
  private sending = 0;

  constructor(
    private readonly url: string,
    private readonly list: UploadList,
  ) {
    list.onRetry = (upload) => {
      upload.state = "waiting";
      this.next();
    };
    window.addEventListener("beforeunload", (event) => {
      if (this.uploads.some((one) => one.state === "waiting" || one.state === "sending")) event.preventDefault();
    });
  }

  add(found: Found[]): void {
    // Hidden files (.DS_Store and the like) of dropped folders are not what anybody means.
    const wanted = found.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
    if (!wanted.length && found.length) toast("Only hidden files were dropped.", "bad");
    for (const { file, path } of wanted) {
      // The folder becomes part of the name: two folders may hold a file of the same name.
      this.uploads.push({ file, name: path.split("/").join(" › "), sent: 0, state: "waiting", reason: "" });
    }
    this.next();
  }

  private next(): void {
    for (const upload of this.uploads) {
      if (this.sending >= AT_ONCE) break;
      if (upload.state === "waiting") this.send(upload);
    }
    this.list.show(this.uploads);
  }

  private send(upload: Upload): void {
    this.sending++;
    upload.state = "sending";
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("files", upload.file, upload.name);
    request.upload.addEventListener("progress", (event) => {
      upload.sent = Math.min(event.loaded, upload.file.size);
      this.list.show(this.uploads);
    });
    request.addEventListener("loadend", () => this.ended(upload, request));
    request.open("POST", this.url);
    request.send(form);
  }

  private ended(upload: Upload, request: XMLHttpRequest): void {
    this.sending--;
    upload.reason = refusal(request);
    upload.state = upload.reason ? "failed" : "done";
    if (!upload.reason) upload.sent = upload.file.size;
    document.body.dispatchEvent(new Event("worksoon"));
    this.next();
  }
}

function refusal(request: XMLHttpRequest): string {
  if (!request.status) return "The server did not answer.";
  let outcome: Outcome = {};
  try {
    outcome = JSON.parse(request.responseText) as Outcome;
  } catch {
    // no JSON: the status is all there is
  }
  if (outcome.failed?.length) return outcome.failed[0]!.error;
  return request.status < 300 ? "" : (outcome.message ?? `Refused (${request.status}).`);
}
