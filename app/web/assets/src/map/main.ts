// The map of one embedded dataset: puts camera, points, names, list and panel together.
import { load } from "./data";
import { MapView } from "./view";

async function start(root: HTMLElement): Promise<void> {
  const status = root.querySelector<HTMLElement>("[data-part=loading]")!;
  try {
    const { points, topics, extent } = await load(root.dataset["points"]!, root.dataset["topics"]!);
    if (points.count === 0) throw new Error("This map holds no points.");
    new MapView(root, points, topics, extent).begin();
    status.hidden = true;
    root.dataset["ready"] = "yes";
  } catch (error) {
    status.replaceChildren(error instanceof Error ? error.message : "The map could not be shown.");
    status.classList.add("failed");
    root.dataset["ready"] = "failed";
  }
}

const root = document.getElementById("map");
if (root?.dataset["points"]) void start(root);
