"""Same input, same bytes: two runs, three input orders, in process and with two worker processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds
from tests.job import Job, digests, run_job

SOURCES = (
    "  - {name: r, path: rlds, embodiment: panda}",
    "  - {name: i, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: isaac}",
    "  - {name: l, path: lerobot, embodiment: panda}",
)
JOINTS = """
  {name}:
    rate_hz: 20
    joints:
      names: [j1, j2, j3, j4, j5, j6, j7]
      position: {{column: {column}, start: 0, end: 7}}
      unit: rad"""
EMBODIMENTS = JOINTS.format(name="panda", column="observation.state") + JOINTS.format(
    name="isaac", column="states.articulation.robot.joint_position"
)
SMALL_PARTS = "\nsink: {part_target_mb: 0.015, row_group_rows: 50}"
TWO_WORKERS = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve episodes a source; motions 0 to 2 appear in every format, motion 0 twice in RLDS."""
    root = tmp_path_factory.mktemp("determinism")
    seeds = [0, 0, 1, 2, *range(10, 18)]
    write_rlds(root / "rlds", [[rlds_example(s) for s in seeds[:6]], [rlds_example(s) for s in seeds[6:]]])
    write_isaac(root / "isaac/a.hdf5", {i: motion(s) for i, s in enumerate([0, 1, *range(20, 25)])})
    write_isaac(root / "isaac/b.hdf5", {i: motion(s) for i, s in enumerate(range(25, 30))})
    motions = {i: motion(s) for i, s in enumerate([2, *range(30, 41)])}
    write_lerobot_v21(root / "lerobot", motions, task="pick up the cube")
    return root


def run(folder: Path, output: str, order: tuple[int, ...] = (0, 1, 2), flags: tuple[str, ...] = ()) -> Job:
    job = run_job(
        folder, "\n".join(SOURCES[i] for i in order), SMALL_PARTS, *flags, output=output, embodiments=EMBODIMENTS
    )
    assert job.status == 0
    return job


@pytest.fixture(scope="module")
def first(folder: Path) -> Job:
    return run(folder, "first")


def test_there_is_something_to_differ(first: Job) -> None:
    for source in "ril":
        assert len(list((first.output / f"transitions/source={source}").glob("*.parquet"))) >= 4
    duplicates = [row for row in first.ledger.values() if row["outcome"] == "duplicate"]
    assert len(duplicates) == 3, "motion 0 three times, 1 twice; 2 twice as well, but before other pictures"
    across = [row for row in duplicates if first.ledger[row["duplicate_of"]]["source"] != row["source"]]
    assert len(across) >= 2


def test_second_run(folder: Path, first: Job) -> None:
    assert digests(run(folder, "second").output) == digests(first.output)


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 0, 2)])
def test_input_order(folder: Path, first: Job, order: tuple[int, ...]) -> None:
    assert digests(run(folder, f"order{order[0]}", order).output) == digests(first.output)


def test_two_worker_processes(folder: Path, first: Job) -> None:
    assert digests(run(folder, "workers", flags=TWO_WORKERS).output) == digests(first.output)


def test_running_again_into_the_same_folder_changes_nothing(folder: Path, first: Job) -> None:
    again = run(folder, "again")
    before = digests(again.output)
    assert digests(run(folder, "again").output) == before == digests(first.output)
    assert len(list((again.output / "_manifests").iterdir())) == 2
