"""Equal motion under another instruction: pairs that deduplication tells and, by default, drops none of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.curated import CuratedSet, part_dataset
from transforms.output_files import CLUSTERS, EPISODES

SHOWN = 4
"""How many pairs the page shows with pictures."""


@dataclass(frozen=True)
class Relabelled:
    """Two episodes of equal motion under texts that differ; `frames` is None where that channel abstained.

    Instructions are those of kept episodes, empty for others.
    """

    a: str
    b: str
    motion: float
    frames: float | None
    text: float
    instruction_a: str = ""
    instruction_b: str = ""


def read_relabelled(curated: CuratedSet) -> tuple[int, Sequence[Relabelled]]:
    """How many pairs there are, and those to show: the least similar motions first, one of each cluster."""
    tables = [_edges(curated, index) for index in range(len(curated.files(CLUSTERS)))]
    edges = pa.concat_tables(tables) if tables else None
    if edges is None or not edges.num_rows:
        return 0, ()
    ordered = edges.sort_by([("similarity", "ascending"), ("a", "ascending"), ("b", "ascending")])
    _, first = np.unique(ordered["cluster_id"].to_numpy(), return_index=True)
    rows = ordered.take(pa.array(np.sort(first)[:SHOWN])).to_pylist()
    said = _instructions(curated, sorted({row[end] for row in rows for end in ("a", "b")}))
    found = [
        Relabelled(
            row["a"],
            row["b"],
            row["similarity"],
            row["frames_similarity"],
            row["instruction_similarity"],
            said.get(row["a"], ""),
            said.get(row["b"], ""),
        )
        for row in rows
    ]
    return edges.num_rows, found


def _edges(curated: CuratedSet, index: int) -> pa.Table:
    return part_dataset(curated.files(CLUSTERS)[index]).to_table(filter=pc.field("relabelled"))


def _instructions(curated: CuratedSet, ids: Sequence[str]) -> dict[str, str]:
    if not curated.files(EPISODES):
        return {}
    where = pc.field("episode_id").isin(pa.array(ids, pa.string()))
    rows = curated.rows(EPISODES, columns=["episode_id", "instruction"], where=where)
    return {row["episode_id"]: row["instruction"] or "" for row in rows.to_pylist()}
