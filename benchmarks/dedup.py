"""Deduplication against its rivals: `python -m benchmarks.dedup [--only PART ...] [--quick] [--check] [--json FILE]`.

Each part is a module `benchmarks.dedup_PART` with `rows(quick)` and `bars()`; `--quick` shrinks it to a smoke test
whose bars do not bind. Rivals live in environments of their own: `make rivals juicer`.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace

from benchmarks.harness import Report, finish, package_versions, parser

PARTS = {
    "signatures": "texts and hashes to MinHash signatures",
    "job": "texts in Parquet to who stays, against datatrove and Data-Juicer",
    "recall": "recall by Jaccard, precision, the largest cluster",
    "memory": "memory of a million texts, and of one bucket",
    "episodes": "copies among other trials",
    "limits": "how far a copy may be",
    "semantic": "like vectors, against faiss at equal recall",
    "nights": "a search that goes on for 30 nights",
    "vector_nights": "a search among vectors that goes on for 30 nights",
    "episode_nights": "evidence that grows for 30 nights",
    "frames": "frames decoded and embedded, through the pipeline and by a bare loop",
    "frame_retrieval": "changed copies of frames that find their original, by model",
}
"""Each part's name and what it measures."""


def main(argv: list[str] | None = None) -> int:
    """Measure the parts that were asked for; returns the exit status."""
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS)
    )
    arguments.add_argument("--quick", action="store_true", help="small sizes, bars that do not bind")
    given = arguments.parse_args(argv)
    modules = [importlib.import_module(f"benchmarks.dedup_{name}") for name in given.only]
    rows = [row for module in modules for row in module.rows(given.quick)]
    bars = [replace(bar, binding=bar.binding and not given.quick) for module in modules for bar in module.bars()]
    versions = package_versions("numpy", "numba", "pyarrow")
    title = "deduplication: " + "; ".join(PARTS[name] for name in given.only)
    return finish(Report(title, rows, bars, versions), given.json, given.check)


if __name__ == "__main__":
    sys.exit(main())
