"""tf.data and the reader without TensorFlow give the same recordings, byte by byte as they are encoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.factories import frame, rlds_example, write_rlds
from tests.sources.rlds_files import STEPS, TEXT, episode, image, shard_path, tensor, write_dataset, write_shard
from tests.tensorflow.media_files import depth_png, exr, wav
from transforms.coders import encode
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording
from transforms.sources import rlds, rlds_tensorflow
from transforms.stage import Unreadable

ARM = Embodiment(rate_hz=20)
DEPTH = [np.arange(6 * 8, dtype="u2").reshape(6, 8) * 1000 + step for step in range(4)]
RANGE_M = [np.linspace(0.1, 9.7, 6 * 8, dtype="f4").reshape(6, 8) + np.float32(step / 3) for step in range(4)]
SOUND = [(np.sin(np.arange(400) / (9 + step)) * 20000).astype("i2").reshape(200, 2) for step in range(4)]


def without_tensorflow(folder: Path, source: Source) -> list[Recording]:
    """What the other reader gives; findings of planning are left out, since tf.data plans nothing."""
    refs = [replace(ref, findings=()) for ref in rlds.plan(source, folder)]
    return [rlds.read(ref, source, ARM) for ref in refs if ref.problem is None]


def assert_same(folder: Path, source: Source, count: int) -> list[Recording]:
    found = list(rlds_tensorflow.recordings(str(folder), source, ARM))
    wanted = without_tensorflow(folder, source)
    assert [r.recording_id for r in found] == [r.recording_id for r in wanted] and len(found) == count
    for one, other in zip(found, wanted, strict=True):
        assert encode(one) == encode(other)
        for camera, ref in one.videos.items():
            some = [0, ref.count - 1]
            assert rlds_tensorflow.read_images(ref, some) == rlds.read_images(other.videos[camera], some)
    return found


def write_media(folder: Path) -> Path:
    """One episode with range images as EXR, 16-bit depth as PNG, sound as WAV; numbers of every kind beside them."""
    steps = {
        **STEPS,
        "observation": {
            "featuresDict": {
                "features": {"state": tensor("float32", 2), "range": tensor("string"), "depth": image("uint16")}
            }
        },
        "sound": tensor("string"),
        "pose": tensor("float64", 2, encoding="bytes"),
        "touch": {"sequence": {"feature": tensor("float32"), "length": "-1"}},
    }
    more = {
        "steps/observation/range": [exr({"Z": z}) for z in RANGE_M],
        "steps/observation/depth": [depth_png(d) for d in DEPTH],
        "steps/sound": [wav(s) for s in SOUND],
        "steps/pose": [row.tobytes() for row in (np.arange(8, dtype="f8") / 3).reshape(4, 2)],
        "steps/touch/ragged_flat_values": np.array([1, 2, 3], "f4"),
        "steps/touch/ragged_row_lengths_0": np.array([1, 0, 2, 0]),
        "episode_metadata/operator": ["Zoë".encode()],
        "episode_metadata/success": np.array([True]),
    }
    metadata = {"operator": TEXT, "success": tensor("bool")}
    write_dataset(folder, [episode(start=1000.0 * i, **more) for i in range(2)], steps, metadata)
    return folder


def test_bridge_is_the_same(robot_data: Path) -> None:
    folder = robot_data / "rlds/bridge_dataset/1.0.0"
    source = Source("bridge", str(folder), "rlds", ("train",), required=("observation.state", "action"))
    found = assert_same(folder, source, 25)
    assert sum(r.streams["steps"].num_rows for r in found) == 250


def test_shards_and_pictures_are_the_same(tmp_path: Path) -> None:
    examples = [rlds_example(seed) for seed in range(5)]
    write_rlds(tmp_path / "toy", [examples[:2], examples[2:]])
    assert_same(tmp_path / "toy", Source("toy", str(tmp_path / "toy")), 5)


def test_media_are_the_same_and_hold_what_was_put_in(tmp_path: Path) -> None:
    folder = write_media(tmp_path / "media")
    found = assert_same(folder, Source("media", str(folder)), 2)
    steps = found[0].streams["steps"]
    assert steps.column("observation.range").to_pylist() == [exr({"Z": z}) for z in RANGE_M]
    assert steps.column("sound").to_pylist() == [wav(s) for s in SOUND]
    assert found[0].videos["depth"].depth and found[0].success is True
    np.testing.assert_array_equal(
        np.stack(steps.column("pose").to_pylist()), (np.arange(8, dtype="f8") / 3).reshape(4, 2)
    )


def test_a_set_without_metadata_is_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    write_shard(shard_path(folder), [episode(start=float(i)) for i in range(3)])
    assert_same(folder, Source("bare", str(folder)), 3)


def test_damage_and_absence_are_named(tmp_path: Path) -> None:
    examples = [rlds_example(seed) for seed in range(2)]
    (path,) = write_rlds(tmp_path / "toy", [examples])
    source = Source("toy", str(tmp_path / "toy"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(frame(examples[0])) + 40] + b"\0" + whole[len(frame(examples[0])) + 41 :])
    with pytest.raises(Unreadable, match=r"toy-train.tfrecord-00000-of-00001: .*copy it again") as damage:
        list(rlds_tensorflow.recordings(str(tmp_path / "toy"), source, ARM))
    assert damage.value.problem.rule == "corrupt"
    path.unlink()
    with pytest.raises(Unreadable, match=r"is named by dataset_info\.json and is not there") as absence:
        list(rlds_tensorflow.recordings(str(tmp_path / "toy"), source, ARM))
    assert absence.value.problem.rule == "declared_absent"
    (tmp_path / "empty").mkdir()
    with pytest.raises(Unreadable, match="no shard is named or there; check the address"):
        list(rlds_tensorflow.recordings(str(tmp_path / "empty"), source, ARM))


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a web server of a folder on this machine, which answers ranges."""

    class Files(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            path, asked = folder / self.path.lstrip("/"), self.headers.get("Range")
            data = path.read_bytes() if path.is_file() else b""
            status, part = (200, data) if path.is_file() else (404, b"")
            if asked and data:
                first, _, last = asked.removeprefix("bytes=").partition("-")
                status, part = 206, data[int(first) : int(last or len(data)) + 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if with_body:
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_system_of_tensorflow_io_gives_the_same_steps_and_pictures(tmp_path: Path) -> None:
    write_rlds(tmp_path / "toy", [[rlds_example(seed) for seed in range(3)]])
    source = Source("toy", str(tmp_path / "toy"))
    wanted = without_tensorflow(tmp_path / "toy", source)
    with served(tmp_path / "toy") as address:
        found = list(rlds_tensorflow.recordings(address, source, ARM))
        pictures = [rlds_tensorflow.read_images(r.videos["image"], [3]) for r in found]
    assert [r.uri for r in found] == [f"{address}/toy-train.tfrecord-00000-of-00001"] * 3
    for one, other in zip(found, wanted, strict=True):
        assert one.streams["steps"].equals(other.streams["steps"]) and one.utterances == other.utterances
        assert one.videos["image"].content_hash == other.videos["image"].content_hash
    assert pictures == [rlds.read_images(r.videos["image"], [3]) for r in wanted]
