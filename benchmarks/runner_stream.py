"""Inputs that inflate 100x on the way from decode to infer, through an object store that holds an eighth of it."""

from __future__ import annotations

import functools
import statistics
import threading
import time
from collections.abc import Iterator, Sequence

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from benchmarks.harness import Row
from benchmarks.memory import tree_pss_mb
from benchmarks.runner_lanes import RAY_RUNNER, Lane, Measured, Outcome, Settings, Tally, quiet_session, run_beam, told

PIECES = 100
PIECE_BYTES = 1_000_000
SIDE = 1000
CLASSES = 64
DISTINCT = 8
STORE_MB = 500
SAMPLE_SECONDS = 0.5
FLAGS = ("--ray_workers_min=2", "--ray_workers_max=2", f"--ray_object_store_mb={STORE_MB}")
Bytes = npt.NDArray[np.uint8]


@functools.cache
def weights() -> npt.NDArray[np.float32]:
    """A layer of zeros and ones, (SIDE, CLASSES), so that sums are exact in any order."""
    return np.random.default_rng(7).integers(0, 2, (SIDE, CLASSES)).astype(np.float32)


def make_input(index: int) -> bytes:
    """A megabyte of noise, one of DISTINCT."""
    return np.random.default_rng(index % DISTINCT).bytes(PIECE_BYTES)


def decode(pieces: int, encoded: bytes) -> Iterator[bytes]:
    """`pieces` megabytes, one after the other."""
    base = np.frombuffer(encoded, np.uint8)
    for piece in range(pieces):
        yield (base + np.uint8(piece)).tobytes()


def infer(piece: bytes) -> int:
    """A few milliseconds of a layer on a megabyte; the consumer is the slower side, as a model is."""
    pixels = np.frombuffer(piece, np.uint8).reshape(SIDE, SIDE).astype(np.float32)
    return int((pixels @ weights()).sum(dtype=np.float64))


def build(inputs: int, pieces: int, pipeline: beam.Pipeline) -> None:
    """decode, and infer under another resource hint, so that the two never run as one stage."""
    made = pipeline | "Seed" >> beam.Create(range(inputs)) | "Make" >> beam.Map(make_input)
    spread = made | "Spread" >> beam.Reshuffle()
    decoded = spread | "Decode" >> beam.FlatMap(functools.partial(decode, pieces)).with_output_types(bytes)
    inferred = decoded | "Infer" >> beam.Map(infer).with_resource_hints(min_ram="500MB")
    inferred | "Tally" >> beam.ParDo(Tally())


def expected(inputs: int, pieces: int) -> dict[str, int]:
    """Count and total by another way: column sums times row sums."""
    of_rows = weights().sum(1, dtype=np.float64)
    by_input = []
    for index in range(min(DISTINCT, inputs)):
        base: Bytes = np.frombuffer(make_input(index), np.uint8).reshape(SIDE, SIDE)
        columns = [(base + np.uint8(piece)).sum(0, dtype=np.float64) for piece in range(pieces)]
        by_input.append(sum(int(column @ of_rows) for column in columns))
    return {"count": inputs * pieces, "total": sum(by_input[index % DISTINCT] for index in range(inputs))}


def run_then_ask(runner: str, inputs: int, pieces: int) -> Outcome:
    """A run, and what Ray spilled since the session began; `spilled_bytes` is absent where no Ray runs."""
    outcome = run_beam(runner, FLAGS, functools.partial(build, inputs, pieces))
    import ray

    if not ray.is_initialized():
        if runner == RAY_RUNNER:
            raise RuntimeError("the session holds no Ray after a run, so nobody can tell what was spilled")
        return outcome
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    store = get_memory_info_reply(get_state_from_address(address)).store_stats
    told_by_ray = {"spilled_bytes": store.spilled_bytes_total, "store_bytes": store.object_store_bytes_avail}
    return Outcome(outcome.seconds, {**outcome.results, **{name: int(value) for name, value in told_by_ray.items()}})


class Sampler:
    """PSS of a process and its descendants, in MB, every SAMPLE_SECONDS while the context is open."""

    def __init__(self, pid: int) -> None:
        self.pss_mb: list[float] = []
        self._pid, self._stop = pid, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            self.pss_mb.append(tree_pss_mb(self._pid))
            self._stop.wait(max(0.0, SAMPLE_SECONDS - (time.monotonic() - started)))

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def growth(samples: Sequence[float]) -> float | None:
    """Median of the last third over that of the middle third; None below six samples."""
    if len(samples) < 6:
        return None
    third = len(samples) // 3
    return statistics.median(samples[-third:]) / statistics.median(samples[third:-third])


def stream(settings: Settings) -> Measured:
    """4 GB through a store of 500 MB: nothing spilled, memory flat."""
    inputs, pieces = settings.size(40, 4), settings.size(PIECES, 10)
    right = expected(inputs, pieces)
    with Lane("RayRunner", quiet_session) as lane:
        lane.run(functools.partial(run_then_ask, settings.runner, 2, 2))
        with Sampler(lane.pid) as sampler:
            outcome = lane.run(functools.partial(run_then_ask, settings.runner, inputs, pieces))
    wrong = {name: outcome.results.get(name) for name in right}
    if wrong != right:
        raise RuntimeError(f"stream: produced {wrong} where {right} is right")
    spilled, store = outcome.results.get("spilled_bytes"), outcome.results.get("store_bytes")
    spilled_mb = None if spilled is None else spilled / 1e6
    store_note = "" if store is None else f"Ray says the store holds {store / 1e6:.0f} MB"
    note = f"{inputs} inputs of 1 MB, each {pieces} pieces of 1 MB; {told(settings.runner, FLAGS)}"
    rows = [
        Row("stream: size", inputs * pieces * PIECE_BYTES / 1e9, "GB", note),
        Row("stream: time", outcome.seconds, "s", "decode -> infer, two pools"),
        Row("stream: spilled", spilled_mb, "MB", store_note or "no Ray session to ask"),
        Row("stream: peak PSS", max(sampler.pss_mb), "MB", f"driver, Ray and workers, {len(sampler.pss_mb)} samples"),
        Row(
            "stream: PSS growth", growth(sampler.pss_mb), "x", "median of the last third over that of the middle third"
        ),
    ]
    return Measured(
        rows, [settings.bar("stream: spilled", "max", 0.0), settings.bar("stream: PSS growth", "max", 1.10)]
    )
