"""Deduplication of episodes: recall of planted copies and precision among other trials of the same tasks.

    python -m benchmarks.dedup_episodes [--trials 12000] [--pairs 300] [--seed 20261126] [--json FILE] [--check]

The corpus is made by benchmarks/episode_corpus.py from the seed; thresholds were set on seeds 11 and 12. Copies are
re-encoded (codec, quality, half the size, brightness), cropped to 85 % and more, resampled by 0.5 to 2 and shifted by a
part of a step, or relabelled. Replays (the same motion in another room) and all other trials are no duplicates.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from beam_pipeline.config import PipelineConfig
from beam_pipeline.pipeline import MultimodalPipeline
from benchmarks.episode_corpus import COPIES, TASKS, Corpus, make_corpus
from benchmarks.episode_trials import Closeness
from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from transforms.deduplication.clusters import clusters
from transforms.evidence import DuplicateEdge, Fingerprint
from transforms.measured import SHINGLES_SCHEMA
from transforms.reports import read_edges
from transforms.representatives import Duplicate, Standing, choose

TUNED_ON = (11, 12)
SEED = 20261126
TRIALS, PAIRS = 12_000, 300
SCALE = 0.5
"""Trials lie this much closer than `Closeness` says, closer than real ones (docs/deduplication_episodes.md)."""
_SAMPLE = 200


def bars() -> list[Bar]:
    """What the rows are held to."""
    found = [Bar(_recall(kind), "min", 0.98) for kind in COPIES]
    return [*found, Bar("episodes: precision", "min", 0.999), Bar("episodes: other trials", "min", 10_000)]


def _recall(kind: str) -> str:
    return f"episodes: recall, {kind}"


def rows(quick: bool = False) -> list[Row]:
    """As `measure` with the benchmark's sizes; `quick` is a smoke test."""
    return measure(TRIALS // 50, 6) if quick else measure()


def measure(trials: int = TRIALS, pairs: int = PAIRS, seed: int = SEED, scale: float = SCALE) -> list[Row]:
    """Make the corpus, find duplicates as the pipeline does, compare with what was planted."""
    corpus = make_corpus(seed, trials, pairs, Closeness().scaled(scale))
    edges = find(corpus.fingerprints)
    return [*score(corpus, edges, f"{pairs} planted, seed {seed}"), *_closeness(corpus, scale)]


def find(fingerprints: Sequence[Fingerprint]) -> list[DuplicateEdge]:
    """The edges that the pipeline finds among fingerprints, with its default parameters."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "shingles-00000.arrow"
        ordered = sorted(fingerprints, key=lambda f: f.episode_id)
        with pa.ipc.new_file(path, SHINGLES_SCHEMA) as writer:
            for start in range(0, len(ordered), 4096):
                some = [asdict(one) for one in ordered[start : start + 4096]]
                writer.write(pa.RecordBatch.from_pylist(some, schema=SHINGLES_SCHEMA))
        with beam.Pipeline("FnApiRunner") as pipeline:
            files = pipeline | beam.Create([str(path)])
            MultimodalPipeline(PipelineConfig(sources=())).compare(files, Path(name))
        return read_edges(Path(name))


def same_demonstration(corpus: Corpus, a: str, b: str) -> bool:
    """Whether two episodes show one demonstration: copies of a trial, replays aside."""
    if "replayed" in (corpus.kind_of.get(a), corpus.kind_of.get(b)):
        return False
    return corpus.copy_of.get(a, a) == corpus.copy_of.get(b, b)


def rightly(corpus: Corpus, edge: DuplicateEdge) -> bool:
    """Whether an edge says the truth: one demonstration, and relabelled where one of the two is."""
    other_text = [corpus.kind_of.get(end) == "relabelled" for end in (edge.a, edge.b)]
    return same_demonstration(corpus, edge.a, edge.b) and edge.relabelled == (other_text[0] != other_text[1])


def score(corpus: Corpus, edges: Sequence[DuplicateEdge], note: str) -> list[Row]:
    """Recall by kind, of pairs of a trial and its copy; precision over all edges; what selection would then drop."""
    right = {(edge.a, edge.b): edge for edge in edges if rightly(corpus, edge)}
    found = []
    for kind in COPIES:
        names = [name for name, its in corpus.kind_of.items() if its == kind]
        got = sum((corpus.copy_of[name], name) in right for name in names)
        found.append(Row(_recall(kind), got / len(names), "share", f"{got} of {note}"))
    wrong = len(edges) - len(right)
    none = len(corpus.fingerprints) - len(corpus.copy_of)
    replays = [name for name, its in corpus.kind_of.items() if its == "replayed"]
    linked = {end for edge in edges for end in (edge.a, edge.b)}
    dropped = give_way(edges)
    lost = sum(not same_demonstration(corpus, d.episode_id, d.representative) for d in dropped)
    relabelled = sum(corpus.kind_of.get(d.episode_id) == "relabelled" for d in dropped)
    return [
        *found,
        Row("episodes: precision", 1 - wrong / max(len(edges), 1), "share", f"{wrong} of {len(edges)} edges are wrong"),
        Row("episodes: other trials", float(none), "count", f"{TASKS} tasks, one instruction each"),
        Row(
            "episodes: replays told apart",
            1 - sum(name in linked for name in replays) / len(replays),
            "share",
            f"the same motion in another room, {len(replays)}",
        ),
        Row("episodes: dropped", float(len(dropped)), "count", f"of {3 * len(replays)} copies under the same text"),
        Row("episodes: lost", float(lost), "count", "dropped, and no copy of what it gave way to"),
        Row("episodes: relabelled dropped", float(relabelled), "count", "they stay by default"),
    ]


def give_way(edges: Sequence[DuplicateEdge]) -> list[Duplicate]:
    """What selection drops, all episodes being equally good."""
    found: list[Duplicate] = []
    for cluster in clusters(edges):
        found += choose(cluster, [Standing(False, True, 0.0, member, True) for member in cluster.members])
    return found


def _closeness(corpus: Corpus, scale: float) -> list[Row]:
    """How near the nearest other trial of the same task is, of some trials."""
    by_task: dict[str, list[Fingerprint]] = {}
    for one in corpus.fingerprints:
        if one.episode_id not in corpus.copy_of:
            by_task.setdefault(one.episode_id.partition("/")[0], []).append(one)
    nearest = np.concatenate([nearest_other(its, _SAMPLE // len(by_task)) for its in by_task.values()])
    note = f"Jaccard of trajectories, {len(nearest)} trials against all of their task; scale {scale:g}"
    return [
        Row("episodes: nearest other trial, median", float(np.median(nearest)), "jaccard", note),
        Row("episodes: nearest other trial, most", float(nearest.max()), "jaccard", note),
    ]


def nearest_other(members: Sequence[Fingerprint], count: int) -> np.ndarray:
    """(count,) the largest Jaccard similarity of the first `count` to any other member."""
    arrays = [np.frombuffer(one.trajectory_shingles, "<u8") for one in members]
    sizes = np.array([len(array) for array in arrays])
    joined, starts = np.concatenate(arrays), np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found = []
    for index in range(min(count, len(members))):
        shared = np.add.reduceat(np.isin(joined, arrays[index]), starts)
        similar = shared / (sizes + sizes[index] - shared)
        similar[index] = 0.0
        found.append(similar.max())
    return np.array(found)


def main() -> int:
    """Make, find, score, judge."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--trials", type=int, default=TRIALS)
    arguments.add_argument("--pairs", type=int, default=PAIRS)
    arguments.add_argument("--seed", type=int, default=SEED)
    arguments.add_argument("--scale", type=float, default=SCALE, help="how far trials of a task lie apart")
    options = arguments.parse_args()
    found = measure(options.trials, options.pairs, options.seed, options.scale)
    versions = package_versions("apache-beam", "numpy", "pyarrow", "av")
    title = f"Duplicates among episodes, seed {options.seed}, tuned on seeds {TUNED_ON[0]} and {TUNED_ON[1]}"
    return finish(Report(title, found, bars(), versions), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
