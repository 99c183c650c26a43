"""The RLDS reader: planning, columns, images, contradictions, and every kind of bad input."""

from __future__ import annotations

import io
import json
import os
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.sources.rlds_files import (
    STEPS,
    TEXT,
    episode,
    example_class,
    image,
    nested,
    tensor,
    write_dataset,
    write_shard,
)
from transforms.coders import decode, encode
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording, RecordingRef, Utterance
from transforms.sources import rlds
from transforms.sources.png import encode_png
from transforms.sources.rlds_checks import holds_picture
from transforms.stage import Unreadable

SOURCE = Source("demo", "anywhere", embodiment="arm")
FIVE_HZ = Embodiment(rate_hz=5.0)
DATA = os.environ.get("ROBOT_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="ROBOT_DATA is not set")


def read_all(path: Path, source: Source = SOURCE) -> list[Recording]:
    return [rlds.read(ref, source, FIVE_HZ) for ref in rlds.plan(source, path) if ref.problem is None]


def read_one(folder: Path, schema: dict[str, object] = STEPS, source: Source = SOURCE, **more: object) -> Recording:
    metadata = {k.split("/")[1]: tensor("bool") for k in more if k.startswith("episode_metadata/has")}
    write_dataset(folder, [episode(**more)], schema, metadata)
    (recording,) = read_all(folder, source)
    return recording


def rules(refs: list[RecordingRef]) -> list[str | None]:
    return [ref.problem.rule if ref.problem else None for ref in refs]


def checks(recording: Recording) -> dict[str, float | None]:
    return {finding.check: finding.value for finding in recording.findings}


def jpeg(colour: tuple[int, int, int] | None = None, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    if colour is not None:
        pixels = np.full((8, 8, 3), colour, np.uint8)
    out = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((8, 8, 1), np.uint8))).save(out, "JPEG")
    return out.getvalue()


# ---- columns


def test_columns_by_hand(tmp_path: Path) -> None:
    recording = read_one(tmp_path)
    steps = recording.streams["steps"]
    assert recording.recording_id == "demo/train/000000" and recording.embodiment == "arm" and recording.explicit
    assert steps.column("timestamp_ns").to_pylist() == [0, 200_000_000, 400_000_000, 600_000_000]
    assert steps.column("frame_index").to_pylist() == [0, 1, 2, 3]
    assert steps.column("observation.state").to_pylist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert steps.column("observation.state").type == pa.list_(pa.float32(), 2)
    assert steps.column("reward").to_pylist() == [0, 0, 0, 1]
    assert steps.column("is_last").to_pylist() == [False, False, False, True]
    assert recording.utterances == (Utterance("open the drawer"),)
    assert recording.findings == ()
    assert decode(encode(recording), Recording).streams["steps"].equals(steps)


def test_no_rate_gives_null_times(tmp_path: Path) -> None:
    shard = write_dataset(tmp_path, [episode()])
    (ref,) = rlds.plan(SOURCE, shard)
    times = rlds.read(ref, SOURCE, Embodiment()).streams["steps"].column("timestamp_ns")
    assert times.type == pa.int64() and times.null_count == 4


@pytest.mark.parametrize(
    ("declared", "values", "expected"),
    [
        (tensor("uint64"), np.arange(4) * 100, [0, 100, 200, 300]),
        (tensor("int64", 1), np.arange(4) * 100, [0, 100, 200, 300]),
        (tensor("float32"), np.arange(4) * 100.0, None),
        (tensor("int64", 2), np.arange(8), None),
        (TEXT, [b"0", b"1", b"2", b"3"], None),
    ],
)
def test_a_stored_clock_is_whole_ns_and_another_is_named(
    tmp_path: Path, declared: dict[str, object], values: object, expected: list[int] | None
) -> None:
    shard = write_dataset(tmp_path, [episode(**{"steps/timestamp_ns": values})], {**STEPS, "timestamp_ns": declared})
    (ref,) = rlds.plan(SOURCE, shard)
    recording = rlds.read(ref, SOURCE, Embodiment(rate_hz=5))
    times = recording.streams["steps"].column("timestamp_ns")
    assert times.type == pa.int64()
    assert times.to_pylist() == (expected or [0, 200_000_000, 400_000_000, 600_000_000])
    found = [(one.check, one.status) for one in recording.findings]
    assert found == ([] if expected else [("metadata.column_unread", "not_run")])
    if not expected:
        assert recording.findings[0].detail.startswith("steps/timestamp_ns holds ")


def test_nested_actions_shapes_and_dtypes(tmp_path: Path) -> None:
    schema = {
        **STEPS,
        "action": nested(arm=tensor("float64", 2), grip=tensor("int8"), matrix=tensor("float32", 2, 2)),
        "packed": tensor("float64", 2, encoding="bytes"),
        "zipped": tensor("uint8", 3, encoding="zlib"),
        "note": TEXT,
    }
    zipped = [zlib.compress(bytes([i, i, i])) for i in range(4)]
    more = {
        "steps/action": None,
        "steps/action/arm": np.arange(8.0),
        "steps/action/grip": np.array([-1, 0, 1, 1]),
        "steps/action/matrix": np.arange(16.0),
        "steps/packed": [np.array([i, -i], "<f8").tobytes() for i in range(4)],
        "steps/zipped": zipped,
        "steps/note": [b"a", b"b", b"c", "é".encode()],
    }
    steps = read_one(tmp_path, schema, **more).streams["steps"]
    assert steps.column("action.arm").type == pa.list_(pa.float64(), 2)
    assert steps.column("action.grip").type == pa.int8() and steps.column("action.grip").to_pylist() == [-1, 0, 1, 1]
    assert steps.column("action.matrix").to_pylist()[1] == [4, 5, 6, 7]
    assert steps.column("packed").to_pylist()[3] == [3, -3]
    assert steps.column("zipped").to_pylist()[2] == [2, 2, 2]
    assert steps.column("note").to_pylist()[3] == "é"


def test_ragged_lists(tmp_path: Path) -> None:
    more = {
        "steps/hits/ragged_flat_values": np.arange(3.0),
        "steps/hits/ragged_row_lengths_0": np.array([0, 2, 1, 0]),
    }
    schema = {**STEPS, "hits": {"sequence": {"feature": tensor("float32"), "length": "-1"}}}
    recording = read_one(tmp_path, schema, **more)
    assert recording.streams["steps"].column("hits").to_pylist() == [[], [0, 1], [2], []]
    assert recording.findings == ()


def test_files_in_string_features_stay_bytes_and_texts_like_them_stay_texts(tmp_path: Path) -> None:
    sound = [b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes([step] * 8) for step in range(4)]
    depth = [b"\x76\x2f\x31\x01\x02\0\0\0" + bytes([200 + step]) for step in range(4)]
    notes = [b"ID3", b"RIFF of a guitar", b"OggS", b"fLaC"]
    recording = read_one(
        tmp_path / "set",
        {**STEPS, "sound": tensor("string"), "range": tensor("string"), "note": TEXT},
        **{"steps/sound": sound, "steps/range": depth, "steps/note": notes},
    )
    steps = recording.streams["steps"]
    assert steps.column("sound").to_pylist() == sound and steps.column("range").to_pylist() == depth
    assert steps.column("note").to_pylist() == [note.decode() for note in notes]


def test_types_are_inferred_without_features_json(tmp_path: Path) -> None:
    path = tmp_path / "lone.tfrecord"
    write_shard(path, [episode(**{"steps/observation/top": [jpeg()] * 4})])
    assert rlds.detect(path)
    (recording,) = read_all(path)
    steps = recording.streams["steps"]
    assert recording.recording_id == "demo/lone/000000"
    assert steps.column("action").type == pa.list_(pa.float32(), 2) and steps.column("is_last").type == pa.bool_()
    assert list(recording.videos) == ["top"]


def test_a_changing_instruction(tmp_path: Path) -> None:
    recording = read_one(tmp_path, **{"steps/language_instruction": [b"lift", b"lift", b"", b"place"]})
    assert recording.utterances == (Utterance("lift", 0, 400_000_000), Utterance("place", 600_000_000, 600_000_001))
    assert recording.streams["steps"].column("language_instruction").to_pylist() == ["lift", "lift", "", "place"]


def test_metadata_and_success(tmp_path: Path) -> None:
    recording = read_one(
        tmp_path,
        **{
            "episode_metadata/file_path": [b"/a/b.npy"],
            "episode_metadata/success": np.array([True]),
            "episode_metadata/n": np.array([1, 2]),
        },
    )
    assert recording.attributes == {"file_path": '"/a/b.npy"', "n": "[1,2]", "success": "true"}
    assert recording.success is True


def test_required(tmp_path: Path) -> None:
    source = Source("demo", "x", required=("action", "observation.images.top"))
    schema = {**STEPS, "observation": nested(state=tensor("float32", 2), top=image())}
    read_one(tmp_path, schema, source, **{"steps/observation/top": [jpeg()] * 4})
    with pytest.raises(Unreadable, match=r"lacks required \['observation.images.top'\]") as info:
        read_one(tmp_path, STEPS, source)
    assert info.value.problem.rule == "required_missing"


# ---- images


def test_images_come_back_as_stored(tmp_path: Path) -> None:
    stored = [jpeg(seed=i) for i in range(4)]
    depth = np.arange(4 * 64, dtype=np.uint16).reshape(4, 8, 8) * 250
    raw = np.arange(4 * 192, dtype=np.uint8).reshape(4, 8, 8, 3)
    schema = {
        **STEPS,
        "observation": nested(
            state=tensor("float32", 2), top=image(), depth=image("uint16"), raw=tensor("uint8", 8, 8, 3)
        ),
    }
    more = {
        "steps/observation/top": stored,
        "steps/observation/depth": [encode_png(d) for d in depth],
        "steps/observation/raw": raw,
    }
    recording = read_one(tmp_path, schema, **more)
    videos = recording.videos
    assert {name: (ref.count, ref.depth) for name, ref in videos.items()} == {  # type: ignore[union-attr]
        "top": (4, False),
        "depth": (4, True),
        "raw": (4, False),
    }
    assert videos["top"].content_hash == xxhash.xxh3_128_hexdigest(b"".join(stored))
    assert rlds.read_images(videos["top"], [2, 0]) == [stored[2], stored[0]]  # type: ignore[arg-type]
    (png,) = rlds.read_images(videos["depth"], [3])  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), depth[3])
    (png,) = rlds.read_images(videos["raw"], [1])  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), raw[1])
    with pytest.raises(IndexError):
        rlds.read_images(videos["top"], [4])  # type: ignore[arg-type]


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90)])
def test_one_colour_is_no_picture(colour: tuple[int, int, int]) -> None:
    assert holds_picture(jpeg(colour)) is False
    assert holds_picture(jpeg()) is True
    flat, out = np.full((64, 64, 3), colour, np.uint8), io.BytesIO()
    Image.fromarray(flat).save(out, "PNG", optimize=True)
    assert holds_picture(encode_png(flat)) is False and holds_picture(out.getvalue()) is False
    flat[40, 50] += 1
    out = io.BytesIO()
    Image.fromarray(flat).save(out, "PNG", optimize=True)
    assert holds_picture(encode_png(flat)) is True and holds_picture(out.getvalue()) is True
    assert holds_picture(encode_png(np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8))) is True
    assert (
        holds_picture(b"") is False and holds_picture(b"GIF89a") is None and holds_picture(b"\xff\xd8\xff\xc0") is None
    )


# ---- contradictions


def test_flags_that_contradict(tmp_path: Path) -> None:
    schema = {**STEPS, "observation": nested(state=tensor("float32", 2), image_0=image(), image_1=image())}
    more = {
        "steps/is_last": np.zeros(4, bool),
        "steps/is_terminal": None,
        "steps/observation/image_0": [jpeg(seed=i) for i in range(4)],
        "steps/observation/image_1": [jpeg((0, 0, 0))] * 4,
        "episode_metadata/has_image_0": np.array([False]),
        "episode_metadata/has_image_1": np.array([True]),
        "episode_metadata/has_image_2": np.array([True]),
        "episode_metadata/has_language": np.array([False]),
    }
    recording = read_one(tmp_path, schema, **more)
    said = {f.detail for f in recording.findings}
    assert "is_last is set on 0 of 4 steps and wrong on 1, the first of them step 3" in said
    assert "has_image_0 is False and 100% of its images hold a picture" in said
    assert "has_image_1 is True and 0% of its images hold a picture" in said
    assert "has_image_2 is True and no such image is in the record" in said
    assert checks(recording)["metadata.is_terminal"] is None
    assert checks(recording)["metadata.has_language"] == 1.0
    assert checks(recording)["metadata.column_absent"] == 1.0


def test_shape_and_dtype_that_contradict(tmp_path: Path) -> None:
    schema = {**STEPS, "action": tensor("float32", 3), "count": tensor("uint8")}
    recording = read_one(tmp_path, schema, **{"steps/count": np.array([1, 2, 3, 300]), "steps/extra": np.arange(4.0)})
    assert recording.streams["steps"].column("action").type == pa.list_(pa.float32(), 2)
    assert recording.streams["steps"].column("count").to_pylist() == [1, 2, 3, 300]
    assert checks(recording) == {
        "metadata.dtype": 1.0,
        "metadata.shape": 2.0,
        "metadata.column_undeclared": 1.0,
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"featuresDict": 3}'])
def test_a_broken_features_json_is_a_finding(tmp_path: Path, text: str) -> None:
    write_dataset(tmp_path, [episode()])
    (tmp_path / "features.json").write_text(text)
    (recording,) = read_all(tmp_path)
    assert checks(recording) == {"metadata.features": 1.0}
    assert recording.streams["steps"].num_rows == 4


# ---- damage


def test_a_record_that_is_no_episode(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.tfrecord", [{"image": [b"1"]}])
    (ref,) = rlds.plan(SOURCE, tmp_path / "x.tfrecord")
    with pytest.raises(Unreadable, match=r"no 'steps/…' among \['image'\]") as info:
        rlds.read(ref, SOURCE, FIVE_HZ)
    assert info.value.problem.rule == "wrong_format"


@pytest.mark.parametrize(
    ("more", "rule", "said"),
    [
        ({"steps": 0}, "empty", "an episode of 0 steps"),
        ({"steps/reward": np.zeros(3, np.float32)}, "shape_changed", "steps/reward has 3 steps where .* has 4"),
        ({"steps/action": np.zeros(7, np.float32)}, "shape_changed", "steps/action has 7 values, no multiple of 4"),
        ({"steps/language_instruction": [b"a"] * 5}, "shape_changed", "steps/language_instruction has 5 steps"),
    ],
)
def test_steps_that_do_not_agree(tmp_path: Path, more: dict[str, object], rule: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said) as info:
        read_one(tmp_path, **more)
    assert info.value.problem.rule == rule


@pytest.mark.parametrize(
    ("spec", "stored", "rule", "said"),
    [
        (tensor("float32", 2, encoding="bytes"), [bytes(7)] * 4, "shape_changed", "at step 0 has 7 bytes"),
        (tensor("uint8", 2, encoding="zlib"), [b"no"] * 4, "corrupt", "at step 0: Error"),
        (tensor("uint8", 2, encoding="zlib"), [zlib.compress(bytes(10**6))] * 4, "shape_changed", "has 3 bytes"),
        (tensor("uint8", 2**40, encoding="zlib"), [b""] * 4, "absurd_size", "declares 1099511627776 bytes a step"),
        (tensor("bfloat16", 2, encoding="bytes"), [bytes(4)] * 4, "wrong_format", "is packed 'bfloat16'"),
    ],
)
def test_packed_tensors_that_lie(
    tmp_path: Path, spec: dict[str, object], stored: list[bytes], rule: str, said: str
) -> None:
    with pytest.raises(Unreadable, match=said) as info:
        read_one(tmp_path, {**STEPS, "x": spec}, **{"steps/x": stored})
    assert info.value.problem.rule == rule


@given(
    count=st.integers(1, 12),
    width=st.integers(2, 5),
    dtype=st.sampled_from(["float32", "int16", "uint8", "bool"]),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_any_column_survives(
    tmp_path_factory: pytest.TempPathFactory, count: int, width: int, dtype: str, data: st.DataObject
) -> None:
    values = np.array(
        data.draw(st.lists(st.integers(0, 1), min_size=count * width, max_size=count * width)), dtype
    ).reshape(count, width)
    folder = tmp_path_factory.mktemp("any")
    recording = read_one(folder, {**STEPS, "x": tensor(dtype, width)}, steps=count, **{"steps/x": values})
    column = recording.streams["steps"].column("x")
    assert column.to_pylist() == values.tolist() and column.type.list_size == width


# ---- real data


@needs_data
def test_bridge_against_protobuf(tmp_path: Path) -> None:
    folder = Path(str(DATA)) / "rlds/bridge_dataset/1.0.0"
    refs = list(rlds.plan(Source("bridge", "x"), folder))
    assert rules(refs) == [None] * 25 + ["declared_absent"] * 25
    content = (folder / "bridge_dataset-train.tfrecord-00000-of-00001").read_bytes()
    example, offset = example_class(), 0
    for ref in refs[:25]:
        length = int.from_bytes(content[offset : offset + 8], "little")
        oracle = example.FromString(content[offset + 12 : offset + 12 + length]).features.feature
        offset += length + 16
        recording = rlds.read(ref, SOURCE, FIVE_HZ)
        steps = recording.streams["steps"]
        for name, key in (("action", "steps/action"), ("observation.state", "steps/observation/state")):
            values = np.array(oracle[key].float_list.value, np.float32).reshape(10, 7)
            np.testing.assert_array_equal(np.array(steps.column(name).to_pylist(), np.float32), values)
        assert recording.utterances[0].text == oracle["steps/language_instruction"].bytes_list.value[0].decode()
        for camera, held in recording.videos.items():
            images = list(oracle[f"steps/observation/{camera}"].bytes_list.value)
            assert rlds.read_images(held, range(10)) == images  # type: ignore[arg-type]
            assert holds_picture(images[0]) == (np.asarray(Image.open(io.BytesIO(images[0]))).std() > 1)
        said = sorted(f.check for f in recording.findings)
        assert said == ["metadata.has_image"] * 3 + ["metadata.is_last", "metadata.splits_alike"]
        assert (
            json.loads(recording.attributes["episode_id"]) == oracle["episode_metadata/episode_id"].int64_list.value[0]
        )
    assert offset == len(content)


@needs_data
def test_bridge_first_episode_by_hand() -> None:
    folder = Path(str(DATA)) / "rlds/bridge_dataset/1.0.0"
    recording = rlds.read(next(rlds.plan(SOURCE, folder)), SOURCE, FIVE_HZ)
    assert recording.utterances[0].text == "put cup from counter or drying rack into sink"
    assert sorted(recording.videos) == ["image_0", "image_1", "image_2", "image_3"]
