"""Cameras that LeRobot cannot hold are refused with the value, the limit, the place and a remedy that works."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.exported import ExportRun, export
from tests.factories import EXAMPLE, jpeg, motion, rlds_example, write_lerobot_v21, write_rlds, write_video
from tests.job import run_job

CAMERA = "observation.images.front"
IMAGE = "observation.images.image"
TOY = "  - {name: toy, path: toy, embodiment: panda}"
KEPT = "\nselect: {rules: {quality.idle_fraction: {max: 0.9}, frames.frozen: {max: 1.0}}}"


@dataclass(frozen=True)
class Export:
    """Curates `toy` once and exports it; each call has a target of its own."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def curated(self) -> Path:
        return self.folder / "out"

    def __call__(self, *flags: str, kind: str = "lerobot-v3") -> ExportRun:
        if not self.curated.exists():
            job = run_job(self.folder, TOY, KEPT)
            assert set(job.outcomes().values()) == {"kept"}, job.ledger
        target = self.folder / f"set{len(list(self.folder.glob('set*')))}"
        return export(self.capsys, self.curated, target, *flags, kind=kind)


@pytest.fixture
def exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Export:
    return Export(tmp_path, capsys)


def refused(exported: Export, words: str, *flags: str, kind: str = "lerobot-v3", without: str = "") -> None:
    """The export fails with these words; without the camera, as they advise, it succeeds."""
    said = exported(*flags, kind=kind)
    assert said.status == 1
    assert words in said.err
    assert not without or exported("--without", without).status == 0


def with_pictures(seed: int, pictures: list[bytes]) -> bytes:
    """An RLDS episode that shows these pictures."""
    example = EXAMPLE()
    example.ParseFromString(rlds_example(seed, len(pictures)))
    shown = example.features.feature["steps/observation/image"].bytes_list
    del shown.value[:]
    shown.value.extend(pictures)
    return bytes(example.SerializeToString(deterministic=True))


@pytest.mark.parametrize("flags", [(), ("--image-cameras", "video")])
def test_a_picture_of_another_size_in_an_episode(tmp_path: Path, exported: Export, flags: tuple[str, ...]) -> None:
    pictures = [jpeg(step, 48 if step == 17 else 32) for step in range(40)]
    write_rlds(tmp_path / "toy", [[with_pictures(1, pictures)]])
    words = (
        f"toy/train/000000: step 17 has a picture of 48x48 px and 3 channels from {IMAGE}, step 0 one of 32x32 px and "
        f"3; LeRobot needs one size: --without {IMAGE}, or reject such episodes"
    )
    refused(exported, words, *flags, without=IMAGE)


def test_episodes_with_pictures_of_different_sizes(tmp_path: Path, exported: Export) -> None:
    small, large = ([jpeg(100 * size + step, size) for step in range(40)] for size in (32, 48))
    write_rlds(tmp_path / "toy", [[with_pictures(1, small), with_pictures(2, large)]])
    words = (
        f"{IMAGE} has pictures of 32x32 px and 3 channels in toy/train/000000 and of 48x48 px and 3 in "
        f"toy/train/000001; LeRobot needs one size: --without {IMAGE}, or curate the two as two sources"
    )
    refused(exported, words, without=IMAGE)


def test_videos_of_different_sizes(tmp_path: Path, exported: Export) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0), 1: motion(1)})
    write_video(tmp_path / f"toy/videos/chunk-000/{CAMERA}/episode_000001.mp4", 40, size=96)
    words = (
        f"{CAMERA} has 64x64 px in toy/train/000000 and 96x96 in toy/train/000001; LeRobot needs one size: "
        f"--without {CAMERA}, or curate the two as two sources"
    )
    refused(exported, words, without=CAMERA)


def test_a_video_of_another_size_than_declared_is_described_as_it_is(tmp_path: Path, exported: Export) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0)})
    write_video(tmp_path / f"toy/videos/chunk-000/{CAMERA}/episode_000000.mp4", 40, size=96)
    done = exported()
    assert done.status == 0, done.err
    feature = done.json("meta/info.json")["features"][CAMERA]
    assert feature["shape"] == [96, 96, 3] and feature["info"]["video.width"] == 96


def test_depth_in_a_video(tmp_path: Path, exported: Export) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0)})
    info = json.loads((tmp_path / "toy/meta/info.json").read_text())
    info["features"][CAMERA]["info"]["video.is_depth_map"] = True
    (tmp_path / "toy/meta/info.json").write_text(json.dumps(info))
    words = f"source 'toy': {CAMERA} holds depth in a video, and LeRobot reads depth from pictures alone; "
    refused(exported, f"{words}--without {CAMERA}", without=CAMERA)


def test_a_modality_file_beyond_the_columns(tmp_path: Path, exported: Export) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0)})
    own = {"state": {"arm": {"start": 0, "end": 7}}, "action": {"arm": {"start": 0, "end": 9}}}
    (tmp_path / "toy/meta/modality.json").write_text(json.dumps(own))
    words = (
        "source 'toy': its modality.json says action.arm is action[0:9], and 7 elements are exported; correct that "
        "file and curate anew"
    )
    refused(exported, words, kind="lerobot-v21-gr00t")


def test_steps_whose_frames_run_backwards(tmp_path: Path, exported: Export) -> None:
    write_lerobot_v21(tmp_path / "toy", {0: motion(0)})
    assert exported().status == 0
    (part,) = (exported.curated / "transitions").rglob("*.parquet")
    table = pq.read_table(part, partitioning=None)
    shown = table[CAMERA].to_pylist()
    shown[7], shown[8] = shown[8], shown[7]
    at = table.schema.get_field_index(CAMERA)
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(shown, table.schema.field(at).type)), part)
    words = (
        f"toy/train/000000: step 8 shows the frame of {CAMERA} at 0.35 s, step 7 that at 0.4 s; frames are encoded in "
        f"their order: curate again, or --without {CAMERA}"
    )
    refused(exported, words, "--videos", "reencode", without=CAMERA)


def test_a_codec_that_mp4_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "takes").mkdir()
    with av.open(str(tmp_path / "takes/a.mkv"), "w") as container:
        stream = container.add_stream("libvpx", rate=20)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for step in range(40):
            picture = np.full((64, 64, 3), 3 * step, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    rows = [f"{step / 20},{np.sin(step / 9):.6f},{np.cos(step / 9):.6f}" for step in range(40)]
    (tmp_path / "takes/a.csv").write_text("\n".join(["timestamp,observation.state[0],action[0]", *rows]) + "\n")
    job = run_job(tmp_path, "  - {name: takes, path: takes, format: video, embodiment: panda}")
    assert job.outcomes() == {"takes/a": "kept"}, job.ledger
    said = export(capsys, job.output, tmp_path / "set", "--videos", "remux")
    assert said.status == 1
    assert ".mkv cannot be remuxed into an mp4, which does not hold vp8: " in said.err
    assert "use --videos reencode" in said.err
    assert export(capsys, job.output, tmp_path / "set", "--videos", "reencode").status == 0
