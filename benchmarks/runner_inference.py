"""JPEG files decoded, inferred on, written as Parquet: RunInference on RayRunner against `ray.data` by hand."""

from __future__ import annotations

import functools
import io
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.parquetio import WriteToParquet
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from PIL import Image

from benchmarks.harness import Row
from benchmarks.runner_lanes import Measured, Outcome, Settings
from benchmarks.runner_rival import THREADS, against_ray_data

HEIGHT, WIDTH, POOL = 480, 640, 8
FEATURES = HEIGHT * WIDTH * 3 // POOL**2
HIDDEN, CLASSES = 256, 16
DISTINCT = 50
BATCH = 32
SCHEMA = pa.schema([("name", pa.string()), ("label", pa.int64()), ("score", pa.int64())])
Pixels = npt.NDArray[np.uint8]


def write_images(folder: Path, count: int) -> None:
    """`count` JPEG files, DISTINCT different ones, of HEIGHT x WIDTH smooth noise."""
    rng = np.random.default_rng(2026)
    encoded = []
    for _ in range(min(count, DISTINCT)):
        coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    for index in range(count):
        (folder / f"{index:06d}.jpg").write_bytes(encoded[index % len(encoded)])


def decode(encoded: bytes) -> Pixels:
    """A JPEG as (FEATURES,) means of POOL x POOL pixels, whole numbers."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB").reduce(POOL)).ravel()


def decode_file(path: str) -> tuple[str, Pixels]:
    """A file's name and its decoded pixels."""
    return Path(path).name, decode(Path(path).read_bytes())


@dataclass(frozen=True)
class Model:
    """Two layers whose weights are -1, 0 or 1, cut to whole numbers between, so that no order of sums matters."""

    first: npt.NDArray[np.float32]
    second: npt.NDArray[np.float32]

    @staticmethod
    def load() -> Model:
        """The same weights everywhere, from a seed."""
        rng = np.random.default_rng(7)
        first = rng.integers(-1, 2, (FEATURES, HIDDEN)).astype(np.float32)
        return Model(first, rng.integers(-1, 2, (HIDDEN, CLASSES)).astype(np.float32))

    def infer(self, batch: Pixels) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(label, score) of each image; batch: (N, FEATURES)."""
        hidden = np.floor(np.maximum(batch.astype(np.float32) @ self.first, 0) / 1024)
        scores = hidden @ self.second
        return scores.argmax(1), scores.max(1).astype(np.int64)


class NumpyHandler(ModelHandler[Pixels, tuple[int, int], Model]):
    """RunInference's interface over Model."""

    def load_model(self) -> Model:
        return Model.load()

    def run_inference(
        self, batch: Sequence[Pixels], model: Model, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[tuple[int, int]]:
        labels, scores = model.infer(np.stack(batch))
        return list(zip(labels.tolist(), scores.tolist(), strict=True))

    def batch_elements_kwargs(self) -> Mapping[str, int]:
        return {"min_batch_size": BATCH, "max_batch_size": BATCH}


def to_row(result: tuple[str, tuple[int, int]]) -> dict[str, object]:
    """One line of the output."""
    name, (label, score) = result
    return {"name": name, "label": label, "score": score}


def build(source: str, target: str, pipeline: beam.Pipeline) -> None:
    """decode, infer, write."""
    paths = sorted(str(path) for path in Path(source).iterdir())
    decoded = pipeline | "Paths" >> beam.Create(paths) | "Decode" >> beam.Map(decode_file)
    inferred = decoded | "Infer" >> RunInference(KeyedModelHandler(NumpyHandler()))
    (
        inferred
        | "ToRow" >> beam.Map(to_row)
        | "Write" >> WriteToParquet(f"{target}/ours", SCHEMA, file_name_suffix=".parquet")
    )


class Infer:
    """A Ray Data actor that loads the model once; decodes too where it is told to."""

    def __init__(self, decodes: bool) -> None:
        self._model = Model.load()
        self._decodes = decodes

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        decoded = decode_batch(batch) if self._decodes else batch
        labels, scores = self._model.infer(decoded["pixels"])
        return {"name": decoded["name"], "label": labels, "score": scores}


def decode_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Names and decoded pixels of a batch of files."""
    names = [Path(path).name for path in batch["path"]]
    return {"name": names, "pixels": np.stack([decode(encoded) for encoded in batch["bytes"]])}


@dataclass(frozen=True)
class Way:
    """A setting of Ray Data: read tasks' cores and blocks, actors and their cores, and where images are decoded."""

    read_cpus: float
    blocks: int | None
    actors: int
    actor_cpus: float
    actors_decode: bool

    def __str__(self) -> str:
        place = "in the actors" if self.actors_decode else "in the read tasks"
        blocks = self.blocks or "default"
        return (
            f"decode {place}, {self.actors} actors of {self.actor_cpus} cpus, {blocks} blocks of {self.read_cpus} cpus"
        )


WAYS = (Way(1, None, 1, 1, False), Way(0.75, 16, 1, 0.5, False), Way(0.5, 16, THREADS, 0.25, True))


def run_ray_data(source: str, target: str, way: Way) -> Outcome:
    """read_binary_files, map_batches, map_batches with an actor class, write_parquet."""
    import ray

    started = time.perf_counter()
    images = ray.data.read_binary_files(
        source, include_paths=True, num_cpus=way.read_cpus, override_num_blocks=way.blocks
    )
    if not way.actors_decode:
        # without a batch size Ray Data fuses reading and decoding into one task
        images = images.map_batches(decode_batch, batch_size=None, num_cpus=way.read_cpus)
    actors = {"fn_constructor_args": (way.actors_decode,), "concurrency": way.actors, "num_cpus": way.actor_cpus}
    images.map_batches(Infer, batch_size=BATCH, **actors).write_parquet(target)
    return read_back(target, Outcome(time.perf_counter() - started))


def read_back(target: str, outcome: Outcome) -> Outcome:
    """What a run wrote, as the number of rows and a sum over their content; the files are deleted."""
    tables = [pq.read_table(path) for path in sorted(Path(target).iterdir())]
    shutil.rmtree(target)
    Path(target).mkdir()
    rows = [row for table in tables for row in table.to_pylist()]
    return Outcome(outcome.seconds, {"count": len(rows), "total": sum(map(_digest, rows))})


def _digest(row: Mapping[str, object]) -> int:
    return zlib.crc32(f"{row['name']}:{row['label']}:{row['score']}".encode())


def expected_output(source: Path) -> dict[str, int]:
    """Count and digest of what is right, one file after the other without Beam or Ray."""
    model, by_content, total = Model.load(), {}, 0
    paths = sorted(source.iterdir())
    for path in paths:
        encoded = path.read_bytes()
        if encoded not in by_content:
            labels, scores = model.infer(decode(encoded)[None])
            by_content[encoded] = int(labels[0]), int(scores[0])
        total += _digest(to_row((path.name, by_content[encoded])))
    return {"count": len(paths), "total": total}


def inference(settings: Settings) -> Measured:
    """decode, infer, write over JPEG files."""
    count = settings.size(1500, 60)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as place:
        source, ours, rival = (Path(place) / name for name in ("images", "ours", "rival"))
        for folder in (source, ours, rival):
            folder.mkdir()
        write_images(source, count)
        megabytes = sum(path.stat().st_size for path in source.iterdir()) / 1e6
        ways = {str(way): functools.partial(run_ray_data, str(source), str(rival), way) for way in WAYS}
        size = Row("inference: size", megabytes, "MB", f"{count} JPEG of {WIDTH} x {HEIGHT}, NumPy model, Parquet out")
        return against_ray_data(
            "inference",
            size,
            functools.partial(build, str(source), str(ours)),
            ways,
            expected_output(source),
            settings,
            functools.partial(read_back, str(ours)),
        )
