"""Limits on what a search for duplicates may drop: where one is passed, nothing is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.deduplication.tables import SourceCount


@dataclass(frozen=True)
class Guardrails:
    """`max_cluster` documents in one cluster; `max_removed` is the fraction of each source that may be dropped."""

    max_cluster: int = 100_000
    max_removed: float = 0.9

    def __post_init__(self) -> None:
        if self.max_cluster < 1:
            raise ValueError(f"--max-cluster is {self.max_cluster}; need at least 1 document")
        if not 0 <= self.max_removed <= 1:
            raise ValueError(f"--max-removed is {self.max_removed}; need 0 <= fraction <= 1")

    def broken(self, clusters: pa.Table, sources: Sequence[SourceCount]) -> list[str]:
        """What passes a limit, each with its remedy."""
        found = []
        large = clusters.filter(pc.greater(clusters.column("documents"), self.max_cluster))
        for row in large.to_pylist():
            found.append(
                f"cluster {row['cluster_id']!r} has {row['documents']} documents, more than {self.max_cluster}; "
                "raise --threshold if they are not alike, or --max-cluster if they are"
            )
        for source in sources:
            removed = source.dropped / source.input
            if removed > self.max_removed:
                name = f"source {source.source!r}" if source.source is not None else "the input"
                found.append(
                    f"{name} loses {source.dropped} of {source.input} documents ({removed:.3f}), more than "
                    f"{self.max_removed:g}; raise --threshold if they are not alike, or --max-removed if they are"
                )
        return found
