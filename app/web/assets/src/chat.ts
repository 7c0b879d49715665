// Chat: begins conversations, sends questions and shows answers as they come. Once an answer is over, the
// thread is read again from the server, so that what is seen is what was stored.
import { toast } from "./toast";

interface Told {
  name: string;
  data: Record<string, unknown>;
}

const JSON_TYPE = { "Content-Type": "application/json" };
const STAGES: Record<string, string> = { retrieving: "Looking for passages…", answering: "Thinking…" };
const TITLE_LENGTH = 80;

export function setUpChat(): void {
  const root = document.querySelector<HTMLElement>("[data-chat]");
  if (!root) return;
  root.querySelectorAll<HTMLFormElement>("[data-connect]").forEach(setUpConnecting);
  setUpDeleting(root);
  const thread = root.querySelector<HTMLElement>("[data-thread]")!;
  const talk = new Talk(root, thread);
  thread.addEventListener("click", (event) => {
    const turn = (event.target as Element).closest("[data-regenerate]")?.closest<HTMLElement>("[data-message]");
    if (turn) void talk.answerAgain(turn);
  });
  const form = root.querySelector<HTMLFormElement>("[data-ask]");
  if (form) setUpAsking(form, talk);
  thread.lastElementChild?.scrollIntoView({ block: "end" });
}

class Talk {
  private running: AbortController | null = null;

  constructor(
    private readonly root: HTMLElement,
    private readonly thread: HTMLElement,
  ) {}

  async ask(form: HTMLFormElement): Promise<void> {
    const fields = new FormData(form);
    const content = String(fields.get("content") ?? "").trim();
    if (!content || this.running) return;
    const known = this.root.dataset["session"];
    const session = known ?? (await this.begin(fields, content));
    if (!session) return;
    form.reset();
    const question = turn("asked");
    question.append(paragraph(content));
    const answer = turn("answered");
    this.thread.append(question, answer);
    const body = { content, hybrid: fields.has("hybrid") };
    await this.follow(`/api/chat/sessions/${session}/messages/stream`, body, answer);
    if (!known) location.replace(`/chat/${session}`); // the list beside it has one more now
  }

  async answerAgain(old: HTMLElement): Promise<void> {
    if (this.running) return;
    const answer = turn("answered");
    old.replaceWith(answer);
    await this.follow(`/api/chat/messages/${old.dataset["message"]}/regenerate?stream=true`, {}, answer);
  }

  stop(): void {
    this.running?.abort();
  }

  private async begin(fields: FormData, content: string): Promise<string | null> {
    const made = await call("/api/chat/sessions", "POST", {
      embedded_dataset_id: Number(fields.get("embedded_dataset_id")),
      llm_id: Number(fields.get("llm_id")),
      title: content.replace(/\s+/g, " ").slice(0, TITLE_LENGTH),
    });
    if (!made) return null;
    const session = String(made["session_id"]);
    this.root.dataset["session"] = session;
    history.replaceState(null, "", `/chat/${session}`);
    this.root.querySelector(".chat-hint")?.remove();
    return session;
  }

  private async follow(path: string, body: unknown, answer: HTMLElement): Promise<void> {
    this.running = new AbortController();
    this.busy(true);
    const state = document.createElement("p");
    state.className = "soft small working";
    state.setAttribute("role", "status");
    const words = document.createElement("div");
    words.className = "words";
    words.dir = "auto";
    answer.append(words, state);
    answer.scrollIntoView({ block: "end" });
    try {
      const response = await fetch(path, {
        method: "POST",
        headers: JSON_TYPE,
        body: JSON.stringify(body),
        signal: this.running.signal,
      });
      if (!response.ok || !response.body) throw new Error(await reason(response));
      for await (const told of events(response.body)) show(told, words, state);
    } catch (error) {
      if (!this.running.signal.aborted) toast(String((error as Error).message), "bad");
    }
    this.running = null;
    this.busy(false);
    await this.readAgain();
  }

  /** The server marks a stopped answer a moment after the browser has left it. */
  private async readAgain(): Promise<void> {
    const session = this.root.dataset["session"];
    const response = await fetch(`/parts/chat/${session}`).catch(() => null);
    if (response?.ok) this.thread.innerHTML = await response.text();
    this.thread.lastElementChild?.scrollIntoView({ block: "end" });
  }

  private busy(is: boolean): void {
    const stop = this.root.querySelector<HTMLElement>("[data-stop]");
    const send = this.root.querySelector<HTMLButtonElement>("[data-send]");
    if (stop) stop.hidden = !is;
    if (send) send.disabled = is;
  }
}

function show(told: Told, words: HTMLElement, state: HTMLElement): void {
  if (told.name === "progress") state.textContent = STAGES[String(told.data["stage"])] ?? "";
  if (told.name === "retrieval_complete") {
    const count = Number(told.data["documents_retrieved"]);
    state.textContent = count === 1 ? "Reading 1 passage…" : `Reading ${count} passages…`;
  }
  if (told.name === "content") {
    state.textContent = "";
    words.append(String(told.data["content"]));
    words.parentElement?.scrollIntoView({ block: "end" });
  }
}

/** Server-sent events of an answer to a POST, which EventSource cannot send. */
async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<Told> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const found = /^event: (.*)\ndata: (.*)$/m.exec(block);
      if (found) yield { name: found[1]!, data: JSON.parse(found[2]!) as Record<string, unknown> };
    }
  }
}

function setUpAsking(form: HTMLFormElement, talk: Talk): void {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void talk.ask(form);
  });
  form.querySelector("textarea")?.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.querySelector("[data-stop]")?.addEventListener("click", () => talk.stop());
}

function setUpConnecting(form: HTMLFormElement): void {
  const provider = form.querySelector("select")!;
  provider.addEventListener("change", () => {
    const chosen = provider.selectedOptions[0]!;
    form.querySelector<HTMLInputElement>("[name=model]")!.value = chosen.dataset["model"] ?? "";
    const address = form.querySelector<HTMLInputElement>("[name=base_url]")!;
    address.value = chosen.dataset["url"] ?? "";
    address.disabled = !address.value; // of the installation's own service the operator has said it
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    void connect(form);
  });
}

async function connect(form: HTMLFormElement): Promise<void> {
  const given = Object.fromEntries(new FormData(form)) as Record<string, string>;
  const made = await call("/api/llms", "POST", { ...given, name: given["model"] });
  if (!made) return;
  const tested = await call(`/api/llms/${String(made["llm_id"])}/test`, "POST", {});
  if (tested?.["success"]) return location.reload();
  if (tested) toast(String(tested["message"]), "bad");
  await fetch(`/api/llms/${String(made["llm_id"])}`, { method: "DELETE" });
}

function setUpDeleting(root: HTMLElement): void {
  root.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-delete-chat]");
    if (button && confirm("Delete this conversation?")) void remove(root, button);
  });
}

async function remove(root: HTMLElement, button: HTMLElement): Promise<void> {
  const session = button.dataset["deleteChat"]!;
  const response = await fetch(`/api/chat/sessions/${session}`, { method: "DELETE" });
  if (!response.ok) return toast(await reason(response), "bad");
  if (root.dataset["session"] === session) location.assign("/chat");
  else button.closest("li")?.remove();
}

async function call(path: string, method: string, body: unknown): Promise<Record<string, unknown> | null> {
  const response = await fetch(path, { method, headers: JSON_TYPE, body: JSON.stringify(body) }).catch(() => null);
  if (response?.ok) return (await response.json()) as Record<string, unknown>;
  toast(response ? await reason(response) : "The server does not answer.", "bad");
  return null;
}

async function reason(response: Response): Promise<string> {
  const problem = (await response.json().catch(() => ({}))) as { message?: string };
  return problem.message ?? `That failed (${response.status}).`;
}

function turn(kind: string): HTMLElement {
  const article = document.createElement("article");
  article.className = `turn ${kind}`;
  return article;
}

function paragraph(text: string): HTMLElement {
  const p = document.createElement("p");
  p.dir = "auto";
  p.textContent = text;
  return p;
}
