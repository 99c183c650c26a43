"""Bags through the whole job: cameras embedded, texts paired, cut files kept with what they lost, bad ones named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest

from tests.bag_files import START_NS, STEP_NS, Message, header, joints, jpeg, write_db3, write_mcap
from tests.job import Job, run_job

T = 60
CAMERA = "observation.images.front"
SOURCE = """
  - name: b
    path: bags
    embodiment: panda
    topics:
      clock: observation.state
      columns:
        observation.state: [{topic: /joint_states, field: position}]
        action: [{topic: /leader/joint_states, field: position}]
      cameras: {front: /front/image/compressed}
      instruction: [/instruction]
"""


def recording(seed: int) -> list[Message]:
    """Joints at 50 Hz with a leader 1 ms ahead, a camera at 25 Hz, an instruction."""
    wave = np.sin(np.linspace(0, 3, T)[:, None] * np.arange(1, 4) + seed)
    out = joints("/joint_states", wave) + joints("/leader/joint_states", wave + 0.01, start_ns=START_NS - 1_000_000)
    for i in range(T // 2):
        stamp = START_NS + 2 * i * STEP_NS
        shown = {"header": header(stamp), "format": "jpeg", "data": jpeg(4 * i + seed, (64, 48))}
        out.append(Message("/front/image/compressed", "sensor_msgs/msg/CompressedImage", stamp, shown))
    text = "pick up the red cup and put it on the shelf"
    out.append(Message("/instruction", "std_msgs/msg/String", START_NS, {"data": text}, 0))
    return sorted(out, key=lambda m: m.log_ns)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("bags")
    write_mcap(folder / "bags/whole.mcap", recording(0), chunk_size=4096)
    write_db3(folder / "bags/sqlite.db3", recording(50))
    cut = write_mcap(folder / "bags/cut.mcap", recording(100), chunk_size=4096)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 6 // 10])
    (folder / "bags/text.mcap").write_text("this is no bag")
    done = run_job(folder, SOURCE)
    assert done.status == 0
    return done


def table(job: Job, name: str) -> list[dict[str, Any]]:
    rows = ds.dataset(job.output / name, partitioning="hive").to_table().to_pylist()
    return sorted(rows, key=lambda r: (r["episode_id"], r.get("frame_index") or 0))


def test_outcomes(job: Job) -> None:
    assert job.outcomes() == {"b/cut": "kept", "b/sqlite": "kept", "b/text": "quarantined", "b/whole": "kept"}
    assert "text.mcap is not MCAP" in job.ledger["b/text"]["detail"]


@pytest.mark.parametrize(("episode", "seed"), [("b/whole", 0), ("b/sqlite", 50)])
def test_steps_have_values_commands_and_the_nearest_image(job: Job, episode: str, seed: int) -> None:
    rows = [row for row in table(job, "transitions") if row["episode_id"] == episode]
    wave = np.sin(np.linspace(0, 3, T)[:, None] * np.arange(1, 4) + seed)
    count = len(rows)
    assert count >= T - 2
    np.testing.assert_array_equal([r["observation.state"] for r in rows], wave[:count])
    np.testing.assert_array_equal([r["action"] for r in rows], (wave + 0.01)[:count])
    for index in (0, 1, 2, 31, count - 2):
        shown = rows[index][CAMERA]["bytes"]
        assert shown in {jpeg(4 * k + seed, (64, 48)) for k in (index // 2, (index + 1) // 2)}, index
    (about,) = [row for row in table(job, "episodes") if row["episode_id"] == episode]
    assert about["instruction"] == "pick up the red cup and put it on the shelf"


def test_a_cut_bag_is_kept_as_far_as_it_goes_and_says_what_it_lost(job: Job) -> None:
    found = {row["check"]: row for row in table(job, "evidence") if row["episode_id"] == "b/cut"}
    assert "without a summary at the end" in found["integrity.no_summary"]["detail"]
    assert found["integrity.lost_messages"]["value"] == 18
    (about,) = [row for row in table(job, "episodes") if row["episode_id"] == "b/cut"]
    assert T // 4 < about["n_steps"] < T
