"""Plain videos with sidecars through the whole job: gaps cut a recording, parts tile it, texts go where they belong."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from tests.factories import write_video
from tests.job import Job, run_job

VIDEO = "  - {name: v, path: video, embodiment: panda}"
FPS, STEPS, GAP_S = 20, 60, 5.0
STEP_NS = 1_000_000_000 // FPS


def stamps(gaps: int) -> np.ndarray:
    """Times in s of 60 steps at 20 Hz; before step 20 (and 40) the clock leaps by 5 s."""
    times = np.arange(STEPS) / FPS
    for gap in range(gaps):
        times[20 * (gap + 1) :] += GAP_S
    return times


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("video")
    for name, gaps in (("whole", 0), ("cut", 2)):
        write_video(folder / f"video/{name}.mp4", STEPS, FPS, seed=gaps)
        times = stamps(gaps)
        rows = [f"{t:.3f},{k},{np.sin(k / 5):.5f},{np.cos(k / 7):.5f}" for k, t in enumerate(times)]
        (folder / f"video/{name}.csv").write_text("\n".join(["timestamp,frame_index,x,y", *rows]) + "\n")
        said = [
            {"text": "pick up the red block", "start": times[0], "end": times[20]},
            {"text": "put it into the box", "start": times[20], "end": times[40]},
            {"text": "open the top drawer", "start": times[40], "end": times[59] + 1},
        ]
        spoken = said if gaps else "stack the two cubes"
        (folder / f"video/{name}.text.json").write_text(json.dumps({"instruction": spoken, "operator": "Ada"}))
    done = run_job(folder, VIDEO)
    assert done.status == 0
    return done


def table(job: Job, name: str) -> list[dict[str, Any]]:
    rows = ds.dataset(job.output / name, partitioning="hive").to_table().to_pylist()
    return sorted(rows, key=lambda r: (r["episode_id"], r.get("timestamp_ns") or 0))


def test_gaps_cut_and_parts_tile(job: Job) -> None:
    parent = job.ledger["v/cut"]
    assert (parent["outcome"], parent["n_children"], parent["n_steps"]) == ("cut", 3, STEPS)
    parts = sorted((r for r in job.ledger.values() if r["parent_id"] == "v/cut"), key=lambda r: r["start_ns"])
    starts = [round(t * 1e9) for t in stamps(2)[[0, 20, 40]]]
    assert [r["episode_id"] for r in parts] == [f"v/cut/{start}" for start in starts]
    assert [(r["start_ns"], r["end_ns"]) for r in parts] == [(s, s + 19 * STEP_NS) for s in starts]
    assert [r["n_steps"] for r in parts] == [20, 20, 20]
    assert {r["outcome"] for r in parts} == {"kept"}, [(r["rule"], r["detail"]) for r in parts]
    assert job.ledger["v/whole"]["outcome"] == "kept" and job.ledger["v/whole"]["n_children"] is None


def test_each_part_has_the_text_of_its_time(job: Job) -> None:
    episodes = table(job, "episodes")
    found = [(r["parent_id"], r["instruction"], r["instruction_status"]) for r in sorted(episodes, key=_start)]
    assert found == [
        (None, "stack the two cubes", "matched"),
        ("v/cut", "pick up the red block", "matched"),
        ("v/cut", "put it into the box", "matched"),
        ("v/cut", "open the top drawer", "matched"),
    ]


def test_each_step_shows_its_own_frame(job: Job) -> None:
    rows = table(job, "transitions")
    assert len(rows) == STEPS - 1 + 3 * 19
    for row in rows:
        shown = next(value for name, value in row.items() if name.startswith("observation.images."))
        step = round(shown["timestamp"] * FPS)
        times = stamps(2 if row["episode_id"].startswith("v/cut") else 0)
        assert row["timestamp_ns"] == round(times[step] * 1e9)
        assert (job.output / shown["path"]).is_file()
        assert row["x"] == pytest.approx(np.sin(step / 5), abs=1e-5)


def test_transitions_do_not_cross_a_gap(job: Job) -> None:
    rows = [r for r in table(job, "transitions") if r["episode_id"].startswith("v/cut")]
    assert len(rows) == 3 * 19
    by_part = {name: [r for r in rows if r["episode_id"] == name] for name in {r["episode_id"] for r in rows}}
    for part in by_part.values():
        assert [r["is_first"] for r in part] == [True] + [False] * 18
        assert {b["timestamp_ns"] - a["timestamp_ns"] for a, b in itertools.pairwise(part)} == {STEP_NS}


def test_metadata_beside_the_video_is_kept(job: Job) -> None:
    rows = table(job, "episodes")
    assert len(rows) == 4
    for row in rows:
        assert json.loads(dict(_pairs(row["attributes"]))["operator"]) == "Ada"


def _start(row: dict[str, Any]) -> tuple[bool, int]:
    return row["parent_id"] is not None, row["start_ns"]


def _pairs(stored: object) -> list[tuple[str, str]]:
    assert isinstance(stored, list)
    return [tuple(p.values()) if isinstance(p, dict) else p for p in stored]
