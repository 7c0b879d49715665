"""Maps beside plain umap-learn + hdbscan: time, memory, quality, in one run.

    python -m tests.bench.bench_map [--data FILE] [--points N ...] [--output FILE]

Every case runs in a fresh process. `ours` is the product's way through its runner (neighbours, 2-D and 10-D
layouts, HDBSCAN in 10-D, vote, topic names, quality figures); `plain` is what a notebook does: UMAP to 2-D
with the library's defaults and HDBSCAN on the picture. Both start with their import caches filled. --data
takes a float32 `.npy` or a JSON file in the form of CLINC150, whose questions the local embedder embeds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
SCRATCH = ROOT / ".data" / "bench-map"
DIMENSION = 256
PLAIN_LIMIT_SECONDS = 420.0
PLAIN_REPEAT_SECONDS = 240.0
OURS_LIMIT_SECONDS = 600.0
# The recipe of common notebooks and of the system that this product follows.
PLAIN_CLUSTER_SIZE, PLAIN_MIN_SAMPLES = 15, 5


@dataclass(frozen=True)
class Corpus:
    """Files of one data set below SCRATCH/name."""

    name: str
    title: str
    points: int
    labelled: bool

    @property
    def folder(self) -> Path:
        return SCRATCH / self.name

    def labels(self) -> NDArray[np.int64] | None:
        return np.load(self.folder / "labels.npy") if self.labelled else None

    def texts_path(self) -> Path | None:
        path = self.folder / "texts.jsonl"
        return path if path.exists() else None


def synthetic(points: int, seed: int = 0) -> Corpus:
    """60 uneven groups in 24 hidden dimensions, 5 % noise, seen through 256 columns; 100-word texts."""
    from app.pipeline.projection.vectors import write_texts, write_vectors

    random = np.random.default_rng(seed)
    groups, hidden = 60, 24
    centres = random.normal(size=(groups, hidden))
    labels = random.choice(groups, points, p=random.dirichlet(np.full(groups, 3.0)))
    places = centres[labels] + 0.45 * random.normal(size=(points, hidden))
    noise = random.random(points) < 0.05
    places[noise] = 1.1 * random.normal(size=(int(noise.sum()), hidden))
    labels[noise] = -1
    columns = random.normal(size=(hidden, DIMENSION)) / hidden**0.5
    corpus = Corpus(f"synthetic-{points}", f"synthetic, {points:,} x {DIMENSION}", points, labelled=True)
    corpus.folder.mkdir(parents=True, exist_ok=True)
    vectors = (
        (block @ columns + 0.15 * random.normal(size=(len(block), DIMENSION))).astype(np.float32)
        for block in np.array_split(places, max(1, points // 10_000))
    )
    write_vectors(vectors, corpus.folder / "vectors.npy")
    np.save(corpus.folder / "labels.npy", labels)
    words = np.array([f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in _SYLLABLES])
    common = random.zipf(1.3, (points, 85)) % len(words)
    own = (labels[:, None] * 17 + random.integers(0, 17, (points, 15))) % len(words)
    write_texts((" ".join(words[row]) for row in np.hstack([common, own])), corpus.folder / "texts.jsonl")
    return corpus


_SYLLABLES = [f"{a}{b}{c}" for a in "mnprst" for b in "aeiou" for c in ("k", "sh", "ll")]


def real(path: Path) -> Corpus:
    """Vectors that somebody made, or CLINC150 embedded here with the local embedder."""
    from app.pipeline.projection.vectors import open_vectors, write_texts, write_vectors

    folder = SCRATCH / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        vectors = open_vectors(path)
        shape = write_vectors([np.asarray(vectors)], folder / "vectors.npy")
        return Corpus(path.stem, f"{path.name}, {shape[0]:,} x {shape[1]}", shape[0], labelled=False)
    parts = json.loads(path.read_text())
    pairs = [pair for part in parts.values() for pair in part if pair[1] != "oos"]
    if not (folder / "vectors.npy").exists():
        write_vectors(_embedded([text for text, _ in pairs]), folder / "vectors.npy")
    write_texts((text for text, _ in pairs), folder / "texts.jsonl")
    np.save(folder / "labels.npy", np.unique([label for _, label in pairs], return_inverse=True)[1])
    title = f"CLINC150 questions, local embedder, {len(pairs):,} x 384"
    return Corpus(path.stem, title, len(pairs), labelled=True)


def _embedded(texts: list[str]) -> list[NDArray[np.float32]]:
    from app.pipeline.embedding.base import EmbedderSpec
    from app.pipeline.embedding.local import LocalEmbedder

    spec = EmbedderSpec(provider="local", model="all-MiniLM-L6-v2", dimensions=384)
    embedder = LocalEmbedder(spec, cache_dir=SCRATCH / "embedder")
    return [
        embedder.embed(texts[start : start + 1_000], purpose="document").vectors
        for start in range(0, len(texts), 1_000)
    ]


# One case in its own process


def run_ours(corpus: Corpus, *, warm: bool) -> dict[str, Any]:
    """Through the runner, from the call to the finished map; cold includes starting the child."""
    from app.pipeline.projection.base import ProjectionInput
    from app.pipeline.projection.runner import ProjectionRunner

    with ProjectionRunner(SCRATCH / "numba", OURS_LIMIT_SECONDS) as runner:
        if warm:
            runner.warm()
        started = time.perf_counter()
        job = ProjectionInput(corpus.folder / "vectors.npy", corpus.texts_path())
        result = runner.run(job)
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        **_used(resource.getrusage(resource.RUSAGE_CHILDREN)),
        **_figures(result.quality),
        **_agreement(corpus, result.labels, result.nearest_topic),
        "stages": {name: round(value, 1) for name, value in result.timings_seconds.items()},
    }


def run_plain(corpus: Corpus, *, warm: bool) -> dict[str, Any]:
    """The libraries' own way; warm: after a first map of 5,000 random points in the same process."""
    from app.pipeline.projection import quality
    from app.pipeline.projection.neighbours import build_graph, prepare_rows
    from app.pipeline.projection.placing import fit_square

    vectors = np.load(corpus.folder / "vectors.npy")
    if warm:
        _warm_plain()
    started = time.perf_counter()
    import umap
    from hdbscan import HDBSCAN

    imported = time.perf_counter()
    points = umap.UMAP(metric="cosine").fit_transform(vectors)
    fitted = time.perf_counter()
    labels = HDBSCAN(
        min_cluster_size=PLAIN_CLUSTER_SIZE, min_samples=PLAIN_MIN_SAMPLES, core_dist_n_jobs=1
    ).fit_predict(points.astype(np.float64))
    ended = time.perf_counter()
    used = _used(resource.getrusage(resource.RUSAGE_SELF))
    rows = prepare_rows(vectors, "cosine", corpus.folder / "plain-rows.npy")
    graph = build_graph(rows, 15, "cosine", seed=42, threads=2, report=lambda _: None)
    return {
        "seconds": ended - started,
        **used,
        **_figures(quality.measure(rows, graph, fit_square(points), "cosine", seed=42)),
        **_agreement(corpus, labels, labels),
        "stages": {
            "import": round(imported - started, 1),
            "umap": round(fitted - imported, 1),
            "hdbscan": round(ended - fitted, 1),
        },
    }


def _used(usage: resource.struct_rusage) -> dict[str, float]:
    """Processor time of all threads since the process began, and its largest resident size."""
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def _warm_plain() -> None:
    import umap

    random = np.random.default_rng(0).normal(size=(5_000, DIMENSION)).astype(np.float32)
    umap.UMAP(metric="cosine", n_epochs=20).fit_transform(random)


def _figures(quality: dict[str, float]) -> dict[str, float]:
    return {"trust": quality["trustworthiness"], "recall": quality["neighbour_recall"]}


def _agreement(corpus: Corpus, labels: NDArray[Any], voted: NDArray[Any]) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    truth = corpus.labels()
    return {
        "topics": int(labels.max()) + 1,
        "unassigned": float((labels < 0).mean()),
        "ari": None if truth is None else float(adjusted_rand_score(truth, labels)),
        "ari_voted": None if truth is None else float(adjusted_rand_score(truth, voted)),
    }


CASES = {
    "ours, fresh process": lambda corpus: run_ours(corpus, warm=False),
    "plain, fresh process": lambda corpus: run_plain(corpus, warm=False),
    "ours, warm process": lambda corpus: run_ours(corpus, warm=True),
    "plain, warm process": lambda corpus: run_plain(corpus, warm=True),
}


def measured(corpus: Corpus, case: str, limit_seconds: float) -> dict[str, Any]:
    """Run one case in its own process; {"failed": why} when it does not come back."""
    load = os.getloadavg()[0]
    command = [
        sys.executable,
        "-m",
        "tests.bench.bench_map",
        "--case",
        case,
        "--corpus",
        json.dumps(vars(corpus)),
    ]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=plain_environment(),
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not finished in {limit_seconds:g} s", "load": load}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1], "load": load}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**result, "load": load}


# The report

COLUMNS = (
    "| way | seconds | processor seconds | peak MiB | trustworthiness | neighbour recall | topics "
    "| unassigned | ARI | ARI after vote | load |"
)


def table(corpus: Corpus, results: dict[str, dict[str, Any]]) -> list[str]:
    """A section of the report: figures, stages, ratios."""
    lines = [
        f"## {corpus.title}",
        "",
        COLUMNS,
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(case, result) for case, result in results.items()),
        "",
        *(
            f"- {case}: " + ", ".join(f"{name} {value} s" for name, value in result["stages"].items())
            for case, result in results.items()
            if "stages" in result
        ),
    ]
    return [*lines, *_ratios(results), ""]


def _row(case: str, result: dict[str, Any]) -> str:
    if "failed" in result:
        return f"| {case} | {result['failed']} | | | | | | | | | {result['load']:.1f} |"
    ari = ["" if result[name] is None else f"{result[name]:.3f}" for name in ("ari", "ari_voted")]
    cells = (
        f"{result['seconds']:.1f}",
        f"{result['cpu_seconds']:.1f}",
        f"{result['peak_mib']:.0f}",
        f"{result['trust']:.4f}",
        f"{result['recall']:.3f}",
        f"{result['topics']}",
        f"{result['unassigned']:.1%}",
        *ari,
        f"{result['load']:.1f}",
    )
    return f"| {case} | " + " | ".join(cells) + " |"


def _ratios(results: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for case, ours in results.items():
        plain = results.get(case.replace("ours", "plain"), {})
        if case.startswith("ours") and "seconds" in ours and "seconds" in plain:
            faster, memory = plain["seconds"] / ours["seconds"], ours["peak_mib"] / plain["peak_mib"]
            verdicts = (
                f"{faster:.1f} times as fast as plain",
                f"{memory:.2f} of its memory",
                f"trustworthiness {ours['trust'] - plain['trust']:+.4f}",
                f"neighbour recall {ours['recall'] - plain['recall']:+.3f}",
            )
            lines.append(f"- **{case}: {', '.join(verdicts)}**")
    return lines


HEAD = """# Maps

Made by `make bench-map` ({command}) on {when}: {cores} cores, Python {python}, {versions}.

*ours* is everything the product does for a map: exact or nearly exact neighbours, the 2-D picture, the 10-D
reduction, HDBSCAN on that, the vote for unassigned points, topic names from the texts, the quality figures.
*plain* does less: UMAP to 2-D with the library's defaults, HDBSCAN (min_cluster_size {size}, min_samples
{samples}) on the picture, no names, no figures. Every case has a process of its own with the import cache of
numba filled: the state after a worker's first start, which took {first:.0f} s here. "Fresh" counts starting,
imports and compiling, "warm" comes after a first small map in the same process. Peak memory is the largest
resident size of the process, mapped files included. Quality is measured the same way for both, exactly, on
1,000 points. "Processor seconds" are those of all threads since the process began, warming included. "Load"
is the machine's load average when a case began: above 0.3 something else was using the cores, and the seconds
are longer than they would be.

Targets: 5,000 points in 10 s in a fresh process; 100,000 x 256 in 60 s and 2 GB on two cores. Where ours is
slower than plain (warm, about 20,000 points) it is because each layout keeps to one core, which makes maps
repeatable, and because ours makes two of them.

"""


def header(arguments: list[str], first_start_seconds: float) -> str:
    """What was run, where and with which versions."""
    from importlib.metadata import version

    names = ("umap-learn", "hdbscan", "numba", "numpy", "scikit-learn")
    return HEAD.format(
        command=" ".join(["python -m tests.bench.bench_map", *arguments]),
        when=datetime.now(UTC).strftime("%Y-%m-%d"),
        cores=len(os.sched_getaffinity(0)),
        python=sys.version.split()[0],
        versions=", ".join(f"{name} {version(name)}" for name in names),
        size=PLAIN_CLUSTER_SIZE,
        samples=PLAIN_MIN_SAMPLES,
        first=first_start_seconds,
    )


def fill_caches() -> float:
    """What a worker has after its first start: compiled loops for ours, cached imports for plain.

    Returns the seconds that the first start ever of our worker took, from an empty cache.
    """
    from app.pipeline.projection.runner import ProjectionRunner

    shutil.rmtree(SCRATCH / "numba", ignore_errors=True)
    with ProjectionRunner(SCRATCH / "numba") as runner:
        first = runner.warm()
    print(f"first start ever, everything compiled: {first:.0f} s", flush=True)
    subprocess.run([sys.executable, "-c", "import umap, hdbscan"], env=plain_environment(), check=True)
    return first


def plain_environment() -> dict[str, str]:
    """This environment with a place of its own for what the libraries cache by themselves."""
    inherited = dict(os.environ)  # noqa: TID251 - no setting of ours: what a child process inherits
    return {**inherited, "NUMBA_CACHE_DIR": str(SCRATCH / "plain-numba")}


def _bounded(corpus: Corpus, case: str, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if case.startswith("ours"):
        return measured(corpus, case, OURS_LIMIT_SECONDS)
    fresh = results.get("plain, fresh process", {"seconds": 0.0})
    if fresh.get("seconds", PLAIN_LIMIT_SECONDS) > PLAIN_REPEAT_SECONDS:
        return {"failed": "left out: the fresh one took too long to repeat", "load": os.getloadavg()[0]}
    return measured(corpus, case, PLAIN_LIMIT_SECONDS)


def main(arguments: list[str]) -> None:
    """Prepare data, run all cases, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="*", default=[5_000, 20_000, 100_000])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks" / "map.md")
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--corpus", type=json.loads)
    options = parser.parse_args(arguments)
    if options.case:
        print(json.dumps(CASES[options.case](Corpus(**options.corpus))))
        return
    first_start_seconds = fill_caches()
    corpora = [synthetic(points) for points in options.points]
    corpora += [real(options.data)] if options.data else []
    shown = [argument if not argument.startswith("/") else Path(argument).name for argument in arguments]
    report = [header(shown, first_start_seconds)]
    for corpus in corpora:
        results: dict[str, dict[str, Any]] = {}
        for case in CASES:
            results[case] = _bounded(corpus, case, results)
            print(corpus.title, _row(case, results[case]), flush=True)
        section = table(corpus, results)
        print("\n".join(section), flush=True)
        report.append("\n".join(section) + "\n")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("".join(report))


if __name__ == "__main__":
    main(sys.argv[1:])
