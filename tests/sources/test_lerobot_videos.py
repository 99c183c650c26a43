from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from tests.factories import jpeg, motion, write_lerobot_v21, write_video
from tests.sources.lerobot_files import (
    FPS,
    Window,
    edit_info,
    edit_listed,
    episode_table,
    first,
    named,
    plan,
    read,
    write_v3,
)
from transforms.episode import ImageRef, Recording, VideoRef
from transforms.loader import read_images
from transforms.media import VideoInfo
from transforms.sources.lerobot_meta import Feature
from transforms.sources.lerobot_videos import declared_findings, period_ns
from transforms.stage import Unreadable

CAMERA = "observation.images.front"
DECLARED = {"dtype": "video", "shape": [64, 64, 3], "info": {"video.codec": "mpeg4", "video.fps": FPS}}
FRAME_NS = 100_000_000


@pytest.fixture()
def v21(tmp_path: Path) -> Path:
    write_lerobot_v21(tmp_path / "v21", {0: motion(0, steps=6), 1: motion(1, steps=6)}, fps=FPS)
    return tmp_path / "v21"


def video_of(root: Path, episode: int = 0) -> Path:
    return root / f"videos/chunk-000/{CAMERA}/episode_{episode:06d}.mp4"


def ref_of(recording: Recording, camera: str = "front") -> VideoRef:
    ref = recording.videos[camera]
    assert isinstance(ref, VideoRef)
    return ref


def frames_of(recording: Recording) -> tuple[list[int], list[int]]:
    frames = recording.streams["video.front"]
    return frames.column("timestamp_ns").to_pylist(), frames.column("pts_ns").to_pylist()


def test_v2_shows_the_whole_file(v21: Path) -> None:
    recording = first(v21)
    digest = xxhash.xxh3_128(video_of(v21).read_bytes()).hexdigest()
    assert ref_of(recording) == VideoRef(str(video_of(v21)), 0, 5 * FRAME_NS, 0, digest)
    assert frames_of(recording) == ([i * FRAME_NS for i in range(6)],) * 2
    assert recording.findings == ()


def test_the_first_frame_belongs_to_the_first_row(v21: Path) -> None:
    path = v21 / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("timestamp")
    pq.write_table(table.set_column(at, "timestamp", pa.array(2.5 + np.arange(6) / FPS)), path)
    recording = first(v21)
    assert ref_of(recording).origin_ns == 2_500_000_000 and ref_of(recording).start_ns == 0
    assert frames_of(recording)[0][:2] == [2_500_000_000, 2_600_000_000]
    assert named(recording.findings, "timestamps.start_offset")[0].value == 2.5


@pytest.fixture()
def v3(tmp_path: Path) -> Path:
    """Two episodes of 5 and 4 rows in one video of 9 frames; the ends of windows are rounded as floats are."""
    windows = [Window(0.0, 0.5), Window(0.49999999, 0.9)]
    tables = [episode_table(0, 0, 5), episode_table(1, 5, 4)]
    root = write_v3(tmp_path / "v3", [tables], {CAMERA: windows}, features={CAMERA: DECLARED})
    write_video(root / f"videos/{CAMERA}/chunk-000/file-000.mp4", 9, FPS)
    return root


def test_v3_shows_a_window_of_the_file(v3: Path) -> None:
    one, two = (read(ref, v3) for ref in plan(v3))
    assert frames_of(one) == ([i * FRAME_NS for i in range(5)],) * 2
    assert frames_of(two) == ([i * FRAME_NS for i in range(4)], [(5 + i) * FRAME_NS for i in range(4)])
    assert (ref_of(two).start_ns, ref_of(two).end_ns, ref_of(two).origin_ns) == (5 * FRAME_NS, 8 * FRAME_NS, 0)
    assert one.findings == two.findings == ()
    assert ref_of(one).content_hash == ref_of(two).content_hash


def test_v3_to_timestamp_short_of_the_frames(v3: Path) -> None:
    def change(rows: list[dict[str, object]]) -> None:
        rows[0][f"videos/{CAMERA}/to_timestamp"] = 0.3

    edit_listed(v3, change)
    found = {f.check: (f.value, f.unit, f.detail) for f in first(v3).findings}
    assert found == {
        "metadata.to_timestamp": (0.2, "s", "front: from_timestamp 0 to to_timestamp 0.3 s for 5 rows"),
        "metadata.frame_count": (-2, "frames", "front: 3 frames for 5 rows"),
    }


def test_v3_window_outside_the_file(v3: Path) -> None:
    def change(rows: list[dict[str, object]]) -> None:
        rows[1][f"videos/{CAMERA}/from_timestamp"], rows[1][f"videos/{CAMERA}/to_timestamp"] = 7.0, 7.4

    edit_listed(v3, change)
    recording = read(plan(v3)[1], v3)
    assert "front" not in recording.videos and "video.front" not in recording.streams
    assert "shows no frame from 7.0 to 7.4 s" in named(recording.findings, "integrity.camera_absent")[0].detail


def test_v3_episode_without_a_window(v3: Path) -> None:
    edit_listed(v3, lambda rows: rows.pop())
    recording = read(plan(v3)[1], v3)
    assert recording.videos == {}
    text = named(recording.findings, "integrity.camera_absent")[0].detail
    assert text == "front: the metadata lists no file for episode 1"


def test_absent_and_declared_but_nowhere(v21: Path) -> None:
    video_of(v21, 1).unlink()
    info = json.loads((v21 / "meta/info.json").read_text())
    edit_info(v21, features={**info["features"], "observation.images.egoview": DECLARED}, total_videos=4)
    one, two = (read(ref, v21) for ref in plan(v21))
    assert set(one.videos) == {"front"} and set(two.videos) == set()
    (absent,) = named(one.findings, "integrity.camera_absent")
    assert absent.value == 1 and absent.detail.startswith("egoview: videos/chunk-000/observation.images.egoview/")
    assert [f.detail.partition(":")[0] for f in named(two.findings, "integrity.camera_absent")] == ["egoview", "front"]


@pytest.mark.parametrize("damage", ["cut", "text", "none"])
def test_a_video_that_cannot_be_read_is_a_finding(v21: Path, damage: str) -> None:
    path = video_of(v21)
    content = {"cut": path.read_bytes()[:700], "text": b"no video\n" * 100, "none": b""}[damage]
    path.write_bytes(content)
    recording = first(v21)
    assert recording.videos == {} and recording.streams["steps"].num_rows == 6
    (found,) = named(recording.findings, "integrity.video_unreadable")
    assert found.value == 1 and found.detail.startswith("front: ") and path.name in found.detail


def test_a_required_camera(v21: Path) -> None:
    assert read(plan(v21)[0], v21, required=(CAMERA,)).videos
    video_of(v21).unlink()
    with pytest.raises(Unreadable, match=r"required column 'observation.images.front' is absent"):
        read(plan(v21)[0], v21, required=(CAMERA,))


def test_frames_against_rows(v21: Path) -> None:
    write_video(video_of(v21), 4, FPS)
    (found,) = first(v21).findings
    assert (found.check, found.value, found.unit) == ("metadata.frame_count", -2, "frames")
    assert found.detail == "front: 4 frames for 6 rows"


def test_folder_video_in_place_of_videos(v21: Path) -> None:
    (v21 / "videos").rename(v21 / "video")
    recording = first(v21)
    assert ref_of(recording).uri == str(v21 / f"video/chunk-000/{CAMERA}/episode_000000.mp4")
    (found,) = recording.findings
    assert found.check == "metadata.video_folder" and "found video/chunk-000" in found.detail


def info_of(codec: str = "mpeg4", width: int = 64, height: int = 48, step_ns: int = FRAME_NS) -> VideoInfo:
    return VideoInfo(codec, width, height, np.arange(5, dtype=np.int64) * step_ns, 1, 5 * step_ns)


@pytest.mark.parametrize(
    ("video", "codec", "expected"),
    [
        (info_of(), "mpeg4", {}),
        (info_of(), "h264", {"metadata.codec": (1, "c: declared h264, the file is mpeg4")}),
        (info_of("av1"), "libsvtav1", {}),
        (info_of("libdav1d"), "av1", {}),
        (info_of("hevc"), "h265", {}),
        (info_of(width=32), "mpeg4", {"metadata.resolution": (1, "c: declared 64x48, the file is 32x48")}),
        (info_of(step_ns=40_000_000), "mpeg4", {"metadata.fps": (25, "c: declared 10 Hz, the file has 25 Hz")}),
    ],
)
def test_codec_resolution_and_rate(video: VideoInfo, codec: str, expected: dict[str, tuple[float, str]]) -> None:
    declared = msgspec_feature(
        {"dtype": "video", "shape": [48, 64, 3], "video_info": {"video.codec": codec, "video.fps": FPS}}
    )
    assert {
        f.check: (f.value, f.detail) for f in declared_findings("c", declared, video, period_ns(video.pts_ns))
    } == expected


def msgspec_feature(entry: dict[str, object]) -> Feature:
    import msgspec

    return msgspec.json.decode(json.dumps(entry), type=Feature)


def test_channels_may_come_first() -> None:
    names = ["channels", "height", "width"]
    assert msgspec_feature({"dtype": "video", "shape": [3, 48, 64], "names": names}).size == (64, 48)
    assert msgspec_feature({"dtype": "video", "shape": [48, 64, 3], "names": None}).size == (64, 48)
    assert msgspec_feature({"dtype": "video", "shape": [48, 64]}).size is None


def with_images(table: pa.Table, images: list[dict[str, object] | None]) -> pa.Table:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return table.append_column(CAMERA, pa.array(images, kind))


@pytest.mark.parametrize("rows_per_group", [100, 2])
def test_images_in_the_rows(tmp_path: Path, rows_per_group: int) -> None:
    pictures = [jpeg(seed) for seed in range(9)]
    rows = [{"bytes": picture, "path": f"frame_{i}.jpg"} for i, picture in enumerate(pictures)]
    tables = [with_images(episode_table(0, 0, 5), rows[:5]), with_images(episode_table(1, 5, 4), rows[5:])]
    features = {CAMERA: {"dtype": "image", "shape": [32, 32, 3]}}
    root = write_v3(tmp_path / "d", [tables], rows_per_group=rows_per_group, features=features)
    recording = read(plan(root)[1], root)
    assert CAMERA not in recording.streams["steps"].schema.names and recording.findings == ()
    ref = recording.videos["front"]
    assert isinstance(ref, ImageRef) and ref.count == 4 and ref.n_bytes == sum(map(len, pictures[5:]))
    assert ref.content_hash == xxhash.xxh3_128(b"".join(pictures[5:])).hexdigest()
    assert read_images(ref, [3, 0, 1]) == [pictures[8], pictures[5], pictures[6]]
    with pytest.raises(IndexError, match=r"image 4 of observation.images.front; the episode has 4"):
        read_images(ref, [4])


def test_images_that_are_absent_or_lie_beside_the_rows(tmp_path: Path) -> None:
    inside, beside = jpeg(1), jpeg(2)
    rows = [
        {"bytes": inside, "path": None},
        {"bytes": None, "path": "images/1.jpg"},
        None,
        {"bytes": None, "path": "../x"},
    ]
    features = {CAMERA: {"dtype": "image", "shape": [32, 32, 3]}}
    root = write_v3(tmp_path / "d", [[with_images(episode_table(0, 0, 4), rows)]], features=features)
    (root / "images").mkdir()
    (root / "images/1.jpg").write_bytes(beside)
    (tmp_path / "x").write_bytes(beside)  # outside the data set: never opened
    recording = first(root)
    ref = recording.videos["front"]
    assert isinstance(ref, ImageRef) and read_images(ref, [0, 1]) == [inside, beside]
    (found,) = recording.findings
    assert (found.check, found.value, found.detail) == ("integrity.image_missing", 2, "front: 2 of 4 images")
    with pytest.raises(Unreadable, match=r"image 3 of observation.images.front is absent"):
        read_images(ref, [3])


def test_declared_images_without_a_column(tmp_path: Path) -> None:
    features = {CAMERA: {"dtype": "image", "shape": [32, 32, 3]}}
    root = write_v3(tmp_path / "d", [[episode_table(0, 0, 4)]], features=features)
    recording = first(root)
    assert recording.videos == {}
    assert named(recording.findings, "integrity.camera_absent")[0].detail.startswith("front: declared as images")


def test_a_copied_data_set_has_the_same_hashes(v21: Path, tmp_path: Path) -> None:
    shutil.copytree(v21, tmp_path / "copy")
    assert ref_of(first(v21)).content_hash == ref_of(first(tmp_path / "copy")).content_hash
