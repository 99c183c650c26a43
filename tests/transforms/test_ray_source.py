"""The Ray Data source gives the recordings that the Beam loader gives, and a row for what it cannot read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import ray.data
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import CollectingErrorHandler

from beam_pipeline.config import PipelineConfig
from beam_pipeline.runner.session.local_ray import LocalRay
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from transforms.coders import encode
from transforms.conventions import Embodiment, Source
from transforms.loader import MultimodalLoader
from transforms.media import MediaParams
from transforms.recording_rows import ROW_SCHEMA, UnpackRecordings, from_row
from transforms.stage import DeadLetter

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Inputs:
    sources: tuple[Source, ...]
    embodiments: dict[str, Embodiment] = field(default_factory=lambda: {"panda": Embodiment(rate_hz=20)})
    media: MediaParams = field(default_factory=MediaParams)


@pytest.fixture(scope="module")
def ray_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    node = LocalRay(2, 200_000_000, tmp_path_factory.mktemp("spill"))
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    node.close()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Every format, a truncated file, an absent episode and a file that nobody knows."""
    folder = tmp_path_factory.mktemp("inputs")
    write_rlds(folder / "r/1.0.0", [[rlds_example(seed, 5) for seed in range(3)], [rlds_example(3, 4)]])
    write_isaac(folder / "i/x.hdf5", {0: motion(0, 6), 1: motion(1, 3)})
    write_isaac(folder / "i/broken.hdf5", {0: motion(2, 400)})
    content = (folder / "i/broken.hdf5").read_bytes()
    (folder / "i/broken.hdf5").write_bytes(content[: len(content) // 2])
    write_lerobot_v21(folder / "l", {0: motion(0, 5), 1: motion(1, 5)}, listed=3)
    write_video(folder / "v/x.mp4", 4)
    (folder / "v/notes.bin").write_bytes(b"no recording")
    return Inputs(tuple(Source(name, str(folder / name), embodiment="panda" if name != "v" else "") for name in "rilv"))


def without_trace(found: Any) -> bytes:
    """What the coder writes; a traceback names the lines that a failure passed, which are others in each engine."""
    return encode(replace(found, traceback="") if isinstance(found, DeadLetter) else found)


def rows_of(dataset: ray.data.Dataset) -> list[dict[str, Any]]:
    return [row for ref in dataset.to_arrow_refs() for row in ray.get(ref).to_pylist()]


def same_as_beam_gives(inputs: Inputs | PipelineConfig) -> list[dict[str, Any]]:
    """The dataset's rows, after a check that they hold all that the Beam loader puts out, and nothing else."""
    rows = rows_of(MultimodalLoader.ray_dataset(inputs))
    with beam.Pipeline(FnApiRunner()) as pipeline:
        with CollectingErrorHandler() as dead:
            loader = MultimodalLoader(inputs.sources, inputs.embodiments, inputs.media)
            read = pipeline | loader.with_error_handler(dead)
        both = (read, dead.output()) | "Merge" >> beam.Flatten() | "Encode" >> beam.Map(without_trace)
        assert_that(both, equal_to([without_trace(from_row(row)) for row in rows]))
    return rows


def test_recordings_and_dead_letters_are_those_of_the_beam_loader(ray_node: None, inputs: Inputs) -> None:
    rows = {row["recording_id"]: row for row in same_as_beam_gives(inputs)}
    dead = {name for name, row in rows.items() if row["error"] is not None}
    assert dead == {"i/broken/000000", "l/train/000002", "v/notes.bin"}
    assert len(rows) == 4 + 3 + 3 + 2
    assert rows["l/train/000002"]["error"].startswith("declared_absent: ")
    assert all(rows[name]["recording"] is None and rows[name]["n_steps"] is None for name in dead)


def test_columns_say_what_a_recording_is(ray_node: None, inputs: Inputs) -> None:
    dataset = MultimodalLoader.ray_dataset(inputs)
    assert dataset.schema().base_schema == ROW_SCHEMA
    assert dataset.count() == 12
    rows = {row["recording_id"]: row for row in rows_of(dataset)}
    told = rows["r/train/000003"]
    del told["recording"]
    assert told == {
        "recording_id": "r/train/000003",
        "source": "r",
        "format": "rlds",
        "embodiment": "panda",
        "uri": str(Path(inputs.sources[0].path) / "1.0.0/toy-train.tfrecord-00001-of-00002"),
        "instruction": "pick up the cube",
        "n_steps": 4,
        "streams": ["steps"],
        "cameras": ["image"],
        "success": None,
        "error": None,
        "dead_letter": None,
    }
    assert rows["i/x/000001"]["success"] is True


def test_each_source_counts_its_plan_for_the_display(ray_node: None, inputs: Inputs, tmp_path: Path) -> None:
    MultimodalLoader.ray_dataset(inputs, str(tmp_path / "plan"))
    assert {p.name: p.read_text() for p in (tmp_path / "plan").iterdir()} == {"r": "4", "i": "3", "l": "3", "v": "2"}


def test_a_source_of_nothing_is_a_dataset_of_no_rows(ray_node: None, tmp_path: Path) -> None:
    assert MultimodalLoader.ray_dataset(Inputs((Source("none", str(tmp_path)),))).count() == 0


def test_published_recordings_are_those_of_the_beam_loader(
    ray_node: None, robot_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOT_DATA", str(robot_data))
    rows = same_as_beam_gives(PipelineConfig.load(EXAMPLES / "real_data.yaml"))
    assert {row["source"] for row in rows} == {"bridge", "isaac", "gr00t", "g1", "so101", "kuka", "prismax"}


def test_rows_in_beam_count_as_the_loader_does(ray_node: None, inputs: Inputs) -> None:
    rows = rows_of(MultimodalLoader.ray_dataset(inputs))

    def counters(pipeline: beam.Pipeline, dead: CollectingErrorHandler) -> dict[str, int]:
        dead.output()
        result = pipeline.run()
        result.wait_until_finish()
        return {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}

    unpacked, loaded = beam.Pipeline(FnApiRunner()), beam.Pipeline(FnApiRunner())
    with CollectingErrorHandler() as of_rows:
        _ = unpacked | beam.Create(rows) | UnpackRecordings().with_error_handler(of_rows)
    with CollectingErrorHandler() as of_loader:
        _ = loaded | MultimodalLoader(inputs.sources, inputs.embodiments).with_error_handler(of_loader)
    expected = {"load.in": 12, "load.out": 9, "load.dead": 3}
    assert counters(unpacked, of_rows) == counters(loaded, of_loader) == expected


def test_a_dead_letter_without_a_handler_is_raised() -> None:
    letter = DeadLetter("load", "s/1", "s", "s.bin", "truncated", "s.bin ends at byte 9 of 20; copy it again")
    row = {"recording": None, "dead_letter": encode(letter)}
    pipeline = beam.Pipeline(FnApiRunner())
    _ = pipeline | beam.Create([row]) | UnpackRecordings()
    with pytest.raises(ValueError, match=r"s/1: truncated: s\.bin ends at byte 9 of 20; copy it again"):
        pipeline.run()


def test_without_ray_the_error_names_the_extra(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "transforms.ray_source", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"Ray Data .*pip install 'demosift\[ray\]'"):
        MultimodalLoader.ray_dataset(inputs)
