// Asks the public API for the passages nearest to a query.
export interface Found {
  ids: string[];
}

interface Answer {
  results: { matches: { id: string; score: number }[]; error?: string | null }[];
  message?: string;
}

const MOST = 100;

export async function search(embeddedDataset: string, query: string): Promise<Found> {
  const answer = await fetch("/api/search", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({
      query,
      embedded_dataset_ids: [Number(embeddedDataset)],
      limit: MOST,
      search_mode: "chunks",
    }),
  });
  const body = (await answer.json().catch(() => ({}))) as Partial<Answer>;
  if (!answer.ok) throw new Error(body.message ?? `The search failed (${answer.status}).`);
  const first = body.results?.[0];
  if (first?.error) throw new Error(first.error);
  return { ids: (first?.matches ?? []).map((match) => match.id) };
}
