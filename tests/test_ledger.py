"""Conservation: whatever goes in leaves exactly once, against an enumeration of the raw files by other code."""

from __future__ import annotations

import itertools
import json
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from tests.job import run_job

SOURCES = """\
  - {name: r, path: rlds, embodiment: panda}
  - {name: i, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}
  - {name: l, path: lerobot, embodiment: panda}
  - {name: v, path: video, embodiment: panda}"""


@dataclass(frozen=True)
class Mixture:
    """What is good and what is broken in one random input."""

    shards: tuple[int, ...]
    cut_tail: bool
    flipped: bool
    demos: tuple[tuple[int, ...], ...]
    truncated_file: bool
    listed: int
    on_disk: frozenset[int]
    broken_parquet: bool
    gaps: tuple[int, ...]
    repeats: bool


mixtures = st.builds(
    Mixture,
    shards=st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
    cut_tail=st.booleans(),
    flipped=st.booleans(),
    demos=st.lists(
        st.lists(st.integers(0, 30), min_size=1, max_size=3, unique=True).map(tuple), min_size=1, max_size=2
    ).map(tuple),
    truncated_file=st.booleans(),
    listed=st.integers(1, 5),
    on_disk=st.frozensets(st.integers(0, 4), min_size=1),
    broken_parquet=st.booleans(),
    gaps=st.lists(st.integers(0, 2), min_size=1, max_size=2).map(tuple),
    repeats=st.booleans(),
)


def write(folder: Path, mixture: Mixture) -> None:
    seeds = iter(range(1000))
    if mixture.repeats:
        seeds = iter([0, 1] * 500)
    paths = write_rlds(folder / "rlds", [[rlds_example(next(seeds)) for _ in range(n)] for n in mixture.shards])
    if mixture.flipped:
        data = bytearray(paths[0].read_bytes())
        data[60] ^= 4
        paths[0].write_bytes(bytes(data))
    if mixture.cut_tail:
        paths[-1].write_bytes(paths[-1].read_bytes()[:-50])
    for index, numbers in enumerate(mixture.demos):
        path = folder / f"isaac/file{index}.hdf5"
        write_isaac(path, {number: motion(next(seeds)) for number in numbers})
        if mixture.truncated_file and index == 0:
            path.write_bytes(path.read_bytes()[:3000])
    on_disk = sorted(i for i in mixture.on_disk if i < mixture.listed)
    write_lerobot_v21(folder / "lerobot", {i: motion(next(seeds)) for i in on_disk}, listed=mixture.listed, video=False)
    if mixture.broken_parquet and on_disk:
        path = folder / f"lerobot/data/chunk-000/episode_{on_disk[0]:06d}.parquet"
        path.write_bytes(path.read_bytes()[:-30])
    for index, gaps in enumerate(mixture.gaps):
        write_video(folder / f"video/v{index}.mp4", 60)
        times = np.arange(60) / 20.0
        for gap in range(gaps):
            times[20 * (gap + 1) :] += 5.0
        lines = ["timestamp,x,y"] + [f"{t:.3f},{np.sin(t):.5f},{np.cos(t):.5f}" for t in times]
        (folder / f"video/v{index}.csv").write_text("\n".join(lines) + "\n")


def count_records(path: Path) -> tuple[int, bool]:
    """(whole records, whether a tail is left over), by lengths alone."""
    data, at, whole = path.read_bytes(), 0, 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        if at + 16 + length > len(data):
            break
        at += 16 + length
        whole += 1
    return whole, at < len(data)


def enumerate_raw(folder: Path) -> dict[str, int]:
    """Planned inputs per source, counted from the raw files without any code of the project."""
    counts = [count_records(path) for path in sorted((folder / "rlds").glob("*tfrecord*"))]
    planned = {"r": sum(whole + tail for whole, tail in counts), "i": 0}
    for path in (folder / "isaac").glob("*.hdf5"):
        try:
            with h5py.File(path) as file:
                planned["i"] += len(file["data"])
        except OSError:
            planned["i"] += 1
    lines = (folder / "lerobot/meta/episodes.jsonl").read_text().splitlines()
    planned["l"] = len([json.loads(line) for line in lines if line])
    planned["v"] = len(list((folder / "video").glob("*.mp4")))
    return planned


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(mixtures)
def test_everything_that_came_in_leaves_exactly_once(mixture: Mixture) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, mixture)
        job = run_job(folder, SOURCES)
        assert job.status == 0
        top = [row for row in job.ledger.values() if row["parent_id"] is None]
        found = {source: sum(row["source"] == source for row in top) for source in "rilv"}
        assert found == enumerate_raw(folder)
        for row in top:
            children = [r for r in job.ledger.values() if r["parent_id"] == row["episode_id"]]
            assert len(children) == (row["n_children"] or 0)
            assert (row["outcome"] == "cut") == bool(children)
            if children:
                assert_tiled(row, children)
        rows = list(job.ledger.values())
        assert all(r["outcome"] in ("kept", "rejected", "duplicate", "quarantined", "cut") for r in rows)
        assert all(job.ledger[r["duplicate_of"]]["outcome"] == "kept" for r in rows if r["outcome"] == "duplicate")
        assert published(job.output) == {r["episode_id"] for r in rows if r["outcome"] == "kept"}
        assert all(r["rule"] and r["detail"] for r in rows if r["outcome"] not in ("kept", "cut")), rows


def published(output: Path) -> set[str]:
    """Ids in `episodes`, each once, and the same in `transitions`."""
    parts = [pq.ParquetFile(p).read(["episode_id"]) for p in sorted((output / "episodes").rglob("*.parquet"))]
    names = [name for part in parts for name in part.column(0).to_pylist()]
    steps = {
        name
        for p in (output / "transitions").rglob("*.parquet")
        for name in pq.ParquetFile(p).read(["episode_id"]).column(0).unique().to_pylist()
    }
    assert len(set(names)) == len(names) and steps == set(names)
    return steps


def assert_tiled(parent: Mapping[str, Any], children: Sequence[Mapping[str, Any]]) -> None:
    """Children cover the parent's steps once: steps sum up, intervals are ordered and disjoint."""
    ordered = sorted(children, key=lambda r: r["start_ns"])
    assert sum(r["n_steps"] for r in ordered) == parent["n_steps"]
    assert ordered[0]["start_ns"] == parent["start_ns"] and ordered[-1]["end_ns"] == parent["end_ns"]
    for left, right in itertools.pairwise(ordered):
        assert left["end_ns"] < right["start_ns"]


def test_a_part_that_a_later_stage_refuses_still_belongs_to_its_recording(tmp_path: Path) -> None:
    write_video(tmp_path / "video/v.mp4", 40)
    times = np.arange(40) / 20.0
    rows = [f"{t:.3f},{np.sin(t):.5f},2024-05-01T12:00:{i:02d}Z" for i, t in enumerate(times)]
    (tmp_path / "video/v.csv").write_text("\n".join(["timestamp,x,wall", *rows]) + "\n")
    marks = [{"start": 0, "end": 0.5}, {"start": 0.6, "end": 0.6}, {"start": 1.0, "end": 1.9}]
    (tmp_path / "video/v.json").write_text(json.dumps({"episodes": marks}))
    job = run_job(tmp_path, "  - {name: v, path: video, embodiment: panda}")
    assert job.status == 0
    parent = job.ledger["v/v"]
    parts = [row for row in job.ledger.values() if row["parent_id"] == "v/v"]
    assert parent["n_children"] == len(parts) == len(job.ledger) - 1
    assert_tiled(dict(parent), [dict(row) for row in parts])
    assert job.outcomes()["v/v/600000000"] == "quarantined"
    (source,) = json.loads((job.output / "run_summary.json").read_text())["outcomes"]
    assert source["planned"] == 1
    kept = pq.read_table(next((job.output / "transitions").rglob("*.parquet")), partitioning=None)
    assert str(kept.schema.field("wall").type) == "timestamp[ns, tz=UTC]", "a clock beside the steps is a column"
