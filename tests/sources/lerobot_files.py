"""LeRobot data sets written by hand: many episodes per file (v3), and edits of metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.conventions import Embodiment, Source
from transforms.episode import Finding, Recording, RecordingRef
from transforms.sources import lerobot

FPS = 10


@dataclass(frozen=True)
class Window:
    """A camera's window of one episode, in a v3 file."""

    start_s: float
    end_s: float
    file: int = 0


def vector_column(values: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def episode_table(episode: int, first_index: int, rows: int, width: int = 2, task: int | Sequence[int] = 0) -> pa.Table:
    """`observation.state[t, d] = 100 * episode + t + d / 10`, `action` its negative, 10 Hz."""
    state = (100 * episode + np.arange(rows)[:, None] + np.arange(width) / 10).astype("f4")
    return pa.table(
        {
            "observation.state": vector_column(state),
            "action": vector_column(-state),
            "timestamp": pa.array((np.arange(rows) / FPS).astype("f4")),
            "frame_index": np.arange(rows),
            "episode_index": np.full(rows, episode),
            "index": np.arange(first_index, first_index + rows),
            "task_index": np.broadcast_to(np.asarray(task), rows).astype("i8"),
        }
    )


def declared(table: pa.Table) -> dict[str, Any]:
    """info.json's features of a table's columns."""
    features = {}
    for field in table.schema:
        listed = pa.types.is_fixed_size_list(field.type)
        kind = field.type.value_type if listed else field.type
        name = {"float": "float32", "double": "float64"}.get(str(kind), str(kind))
        features[field.name] = {"dtype": name, "shape": [field.type.list_size if listed else 1], "names": None}
    return features


def write_v3(
    root: Path,
    files: Sequence[Sequence[pa.Table]],
    cameras: Mapping[str, Sequence[Window]] | None = None,
    rows_per_group: int = 1 << 20,
    features: Mapping[str, Any] | None = None,
) -> Path:
    """A v3.0 data set: `files` holds the episodes of each data file, numbered through; `cameras` their windows."""
    (root / "data/chunk-000").mkdir(parents=True)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    listed = []
    for number, tables in enumerate(files):
        pq.write_table(
            pa.concat_tables(tables), root / f"data/chunk-000/file-{number:03d}.parquet", row_group_size=rows_per_group
        )
        for table in tables:
            first = table["index"][0].as_py()
            row = {
                "episode_index": len(listed),
                "tasks": ["push the block"],
                "length": len(table),
                "data/chunk_index": 0,
                "data/file_index": number,
                "dataset_from_index": first,
                "dataset_to_index": first + len(table),
                "stats/action/min": [0.0],
            }
            for camera, windows in (cameras or {}).items():
                window = windows[len(listed)]
                row |= {
                    f"videos/{camera}/chunk_index": 0,
                    f"videos/{camera}/file_index": window.file,
                    f"videos/{camera}/from_timestamp": window.start_s,
                    f"videos/{camera}/to_timestamp": window.end_s,
                }
            listed.append(row)
    pq.write_table(pa.Table.from_pylist(listed), root / "meta/episodes/chunk-000/file-000.parquet")
    tasks = {"task_index": [0, 1], "__index_level_0__": ["push the block", "open the drawer"]}
    pq.write_table(pa.table(tasks), root / "meta/tasks.parquet")
    info = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "total_episodes": len(listed),
        "total_frames": sum(row["length"] for row in listed),
        "total_tasks": 2,
        "splits": {"train": f"0:{len(listed)}"},
        "features": {**declared(files[0][0]), **(features or {})},
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


def three_episodes(root: Path, **how: Any) -> Path:
    """Episodes of 5, 4 and 6 rows: two in the first file, one in the second."""
    return write_v3(root, [[episode_table(0, 0, 5), episode_table(1, 5, 4)], [episode_table(2, 9, 6)]], **how)


def edit_info(root: Path, **changes: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_listed(root: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the rows of a v3 data set's list of episodes."""
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows), path)


def source_of(root: Path, **how: Any) -> Source:
    return Source("s", str(root), "lerobot", **how)


def plan(root: Path, **how: Any) -> list[RecordingRef]:
    return list(lerobot.plan(source_of(root, **how), root))


def read(ref: RecordingRef, root: Path, embodiment: Embodiment | None = None, **how: Any) -> Recording:
    return lerobot.read(ref, source_of(root, **how), embodiment or Embodiment())


def first(root: Path, **how: Any) -> Recording:
    """The first planned episode, read."""
    return read(plan(root)[0], root, **how)


def named(findings: Sequence[Finding], check: str) -> list[Finding]:
    return [found for found in findings if found.check == check]
