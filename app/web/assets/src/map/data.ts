// The points of a map as they come over the wire, and its topics.

export interface Topic {
  id: number;
  name: string;
  keywords: string[];
  size: number;
  x: number;
  y: number;
  exemplars: string[];
}

export interface Points {
  count: number;
  documents: number;
  /** Scaled so that the longer side of the map runs from -1 to 1; y grows upwards. */
  x: Float32Array;
  y: Float32Array;
  /** Topic of each point, -1 where none. */
  cluster: Int32Array;
  /** The topic most of a point's neighbours have. */
  nearest: Int32Array;
  /** Which document, as a dense number. */
  document: Int32Array;
  ids: Uint8Array;
}

interface Header {
  count: number;
  documents: number;
}

/** Layout: uint32 length of the JSON header, the header, then the columns, each starting at 4 bytes. */
export function decode(buffer: ArrayBuffer): Points {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length))) as Header;
  const n = header.count;
  let at = 4 + length;
  const next = (bytes: number): number => {
    const start = at;
    at += bytes;
    return start;
  };
  const points: Points = {
    count: n,
    documents: header.documents,
    x: new Float32Array(buffer, next(n * 4), n),
    y: new Float32Array(buffer, next(n * 4), n),
    cluster: new Int32Array(buffer, next(n * 4), n),
    nearest: new Int32Array(buffer, next(n * 4), n),
    document: new Int32Array(buffer, next(n * 4), n),
    ids: new Uint8Array(buffer, next(n * 16), n * 16),
  };
  return points;
}

/** Where all but the outermost hundredth of the values lie: a few strays must not squeeze the rest. */
function range(values: Float32Array): [number, number] {
  const sorted = values.slice().sort();
  const last = sorted.length - 1;
  const at = (share: number): number => sorted[Math.round(share * last)] ?? 0;
  const margin = 0.08 * (at(0.995) - at(0.005));
  return [Math.max(at(0), at(0.005) - margin), Math.min(at(1), at(0.995) + margin)];
}

/** Moves and scales points and topics in place into the unit square, keeping the shape; gives half its sides. */
export function normalise(points: Points, topics: Topic[]): [number, number] {
  const [left, right] = range(points.x);
  const [low, high] = range(points.y);
  const scale = 2 / Math.max(right - left, high - low, 1e-9);
  const [cx, cy] = [(left + right) / 2, (low + high) / 2];
  for (let i = 0; i < points.count; i++) {
    points.x[i] = (points.x[i]! - cx) * scale;
    points.y[i] = (points.y[i]! - cy) * scale;
  }
  for (const topic of topics) {
    topic.x = (topic.x - cx) * scale;
    topic.y = (topic.y - cy) * scale;
  }
  return [Math.max(0.05, ((right - left) * scale) / 2), Math.max(0.05, ((high - low) * scale) / 2)];
}

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function idOf(points: Points, i: number): string {
  let text = "";
  for (let k = 0; k < 16; k++) {
    if (k === 4 || k === 6 || k === 8 || k === 10) text += "-";
    text += HEX[points.ids[i * 16 + k]!]!;
  }
  return text;
}

/** Number of each id; built once, when something is first looked up by id. */
export function indexById(points: Points): Map<string, number> {
  const index = new Map<string, number>();
  for (let i = 0; i < points.count; i++) index.set(idOf(points, i), i);
  return index;
}

export async function load(pointsUrl: string, topicsUrl: string): Promise<{ points: Points; topics: Topic[]; extent: [number, number] }> {
  const [a, b] = await Promise.all([fetch(pointsUrl), fetch(topicsUrl)]);
  for (const answer of [a, b]) {
    if (!answer.ok) throw new Error(`The map's data could not be read (${answer.status}).`);
  }
  const [buffer, topics] = await Promise.all([a.arrayBuffer(), b.json() as Promise<Topic[]>]);
  const points = decode(buffer);
  const extent = normalise(points, topics);
  topics.sort((one, other) => other.size - one.size);
  return { points, topics, extent };
}
