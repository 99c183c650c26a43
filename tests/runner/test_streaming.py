"""A stage that inflates its input runs ahead of its consumer by what an edge may hold, and nothing is spilled."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from beam_pipeline.runner import PipelineLifecycleManager, RayRunner

PIECES, SIZE, INPUTS = 10, 1_000_000, 40
EDGE_MB, BUNDLE_MB = 16, 4


def _inflate(element: int, folder: Path) -> Iterator[bytes]:
    noise = random.Random(element).randbytes(SIZE - 2)
    for piece in range(PIECES):
        (folder / f"made-{element}-{piece}").touch()
        yield bytes([element, piece]) + noise


def _consume(piece: bytes, folder: Path) -> int:
    made, used = len(list(folder.glob("made-*"))), len(list(folder.glob("used-*")))
    time.sleep(0.01)
    (folder / f"used-{piece[0]}-{piece[1]}-{made - used}").touch()
    return len(piece)


def test_bundles_stream_within_the_bytes_of_an_edge(tmp_path: Path) -> None:
    import ray

    flags = ["--ray_workers_min=2", "--ray_workers_max=2", "--ray_object_store_mb=120"]
    flags += [f"--ray_edge_mb={EDGE_MB}", f"--ray_bundle_mb={BUNDLE_MB}"]
    with PipelineLifecycleManager():
        with beam.Pipeline(runner=RayRunner(), options=PipelineOptions(flags)) as pipeline:
            spread = pipeline | beam.Create(range(INPUTS)) | beam.Reshuffle()
            made = spread | beam.FlatMap(_inflate, tmp_path).with_output_types(bytes)
            made | beam.Map(_consume, tmp_path).with_resource_hints(min_ram="100MB")
        store = get_memory_info_reply(get_state_from_address(ray.get_runtime_context().gcs_address)).store_stats
    used = [path.name.split("-") for path in tmp_path.glob("used-*")]
    assert {(int(e), int(p)) for _, e, p, _ in used} == {(e, p) for e in range(INPUTS) for p in range(PIECES)}
    assert store.spilled_bytes_total == 0
    # in flight: the edge, a bundle (an element's pieces) that each worker had begun by then, and what is being consumed
    ahead = max(int(count) for *_, count in used)
    assert ahead <= EDGE_MB + 2 * PIECES + 2 * BUNDLE_MB, f"{ahead} pieces of {SIZE} bytes were in flight"
    assert ahead < INPUTS * PIECES / 2, "the producer ran to its end first: nothing streamed"
