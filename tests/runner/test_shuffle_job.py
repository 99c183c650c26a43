"""Shuffles of a whole job: more than the object store holds, hot keys that stream, many bundles that are merged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineLifecycleManager, RayRunner

MEGABYTE = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """One small Ray for the module's pipelines."""
    with PipelineLifecycleManager():
        yield


def _options(*more: str) -> PipelineOptions:
    return PipelineOptions(["--ray_workers_min=2", "--ray_workers_max=2", "--ray_object_store_mb=100", *more])


def _note(text: object, path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def _values(count: int, index: int) -> Iterator[tuple[int, bytes]]:
    for number in range(count):
        yield number % 3, index.to_bytes(2, "big") + number.to_bytes(2, "big") + bytes(MEGABYTE // 2)


def _digest(group: tuple[int, Iterable[bytes]]) -> tuple[int, int, int]:
    key, values = group
    total = passes = 0
    for _ in range(2):
        passes += 1
        for value in values:
            total += int.from_bytes(value[:4], "big") + len(value)
    return key, passes, total


def test_a_shuffle_larger_than_the_object_store_is_spilled_and_read_twice(tmp_path: Path) -> None:
    path, bundles, each = tmp_path / "groups", 25, 12
    with beam.Pipeline(runner=RayRunner(), options=_options("--ray_bundle_mb=4")) as pipeline:
        made = pipeline | beam.Create(range(bundles)) | beam.FlatMap(lambda index: _values(each, index))
        made | beam.GroupByKey() | beam.Map(_digest) | beam.Map(_note, path)
    expected = set()
    for key in range(3):
        heads = [index << 16 | number for index in range(bundles) for number in range(key, each, 3)]
        expected.add(str((key, 2, 2 * (sum(heads) + len(heads) * (MEGABYTE // 2 + 4)))))
    assert set(path.read_text().splitlines()) == expected


def test_many_bundles_are_merged_and_no_pair_is_lost(tmp_path: Path) -> None:
    path, count = tmp_path / "sums", 300
    with beam.Pipeline(runner=RayRunner(), options=_options("--ray_bundle_mb=0.000001")) as pipeline:
        made = pipeline | beam.Create(range(count)) | beam.Map(lambda n: (n % 7, n))
        made | beam.GroupByKey() | beam.MapTuple(lambda k, v: (k, len(list(v)), sum(v))) | beam.Map(_note, path)
    groups = {k: [n for n in range(count) if n % 7 == k] for k in range(7)}
    assert set(path.read_text().splitlines()) == {str((k, len(v), sum(v))) for k, v in groups.items()}


def test_more_partitions_than_keys_and_no_key_at_all(tmp_path: Path) -> None:
    path = tmp_path / "groups"
    with beam.Pipeline(runner=RayRunner(), options=_options("--ray_shuffle_partitions=64")) as pipeline:
        some = pipeline | beam.Create([("a", 1), ("b", 2), ("a", 3)])
        none = some | beam.Filter(lambda pair: False)
        (
            ({"some": some, "none": none} | beam.CoGroupByKey())
            | beam.MapTuple(lambda k, v: (k, sorted(v["some"]), list(v["none"])))
            | beam.Map(_note, path)
        )
        none | "Group none" >> beam.GroupByKey() | "Note none" >> beam.Map(_note, path)
    assert set(path.read_text().splitlines()) == {"('a', [1, 3], [])", "('b', [2], [])"}
