"""Both sides of each format in the readers' benchmark: a pass over the whole corpus that returns what it cost."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow.parquet as pq

from benchmarks.corpora import ISAAC, Corpus, Shapes
from transforms.conventions import Embodiment, Source
from transforms.episode import STEPS, ImageRef, VideoRef
from transforms.media import MediaDecoder
from transforms.sources import isaac_hdf5, lerobot, rlds
from transforms.sources.lerobot_tables import forget
from transforms.sources.rlds_metadata import load_features
from transforms.sources.rlds_steps import read_steps
from transforms.sources.tf_example import parse_example
from transforms.sources.tfrecord import iter_records

logging.getLogger("apache_beam").setLevel(logging.ERROR)
EMBODIMENT = Embodiment(rate_hz=20)
END_NS = 1 << 62


@dataclass(frozen=True)
class Cost:
    """What one pass took: `cpu_s` of all threads of all processes of the side; `units` what it got to see."""

    wall_s: float
    cpu_s: float
    units: int


Arm = Callable[[], Cost]


def process_cpu_s(pid: int) -> float:
    """CPU seconds of another process, all its threads, to the nanosecond (Linux: its CPU-time clock)."""
    return time.clock_gettime((~pid << 3) | 2)


def costed(work: Callable[[], int], child: Callable[[], int | None] = lambda: None) -> Cost:
    """One call's cost; `child` names a process that works for it and lives throughout."""

    def cpu_s() -> float:
        pid = child()
        return time.process_time() + (process_cpu_s(pid) if pid is not None else 0.0)

    wall, cpu = time.perf_counter(), cpu_s()
    units = work()
    return Cost(time.perf_counter() - wall, cpu_s() - cpu, units)


def rlds_arm(corpus: Corpus) -> Arm:
    """Plan, then read every episode; units: steps."""
    source = Source("rlds", str(corpus.folder), "rlds")

    def work() -> int:
        refs = rlds.plan(source, corpus.folder)
        return sum(rlds.read(ref, source, EMBODIMENT).streams[STEPS].num_rows for ref in refs)

    return lambda: costed(work)


def rlds_columns_arm(corpus: Corpus) -> Arm:
    """Records to typed columns, the work that tf.data does: checksums, parse, shapes and dtypes; units: steps."""

    def work() -> int:
        declared, _ = load_features(corpus.folder)
        records = (record for path in corpus.files for record in iter_records(path))
        return sum(read_steps(parse_example(record), declared).count for record in records)

    return lambda: costed(work)


def lerobot_arm(corpus: Corpus) -> Arm:
    """Plan, then read every episode, with no row group kept from the pass before; units: steps."""
    source = Source("lerobot", str(corpus.folder), "lerobot")

    def work() -> int:
        forget()
        refs = lerobot.plan(source, corpus.folder)
        return sum(lerobot.read(ref, source, EMBODIMENT).streams[STEPS].num_rows for ref in refs)

    return lambda: costed(work)


def parquet_arm(corpus: Corpus) -> Arm:
    """`pyarrow.parquet.read_table` of every file, one thread; units: rows."""
    return lambda: costed(lambda: sum(pq.read_table(path, use_threads=False).num_rows for path in corpus.files))


def isaac_arm(corpus: Corpus) -> Arm:
    """Plan, then read every demo; images are hashed, not kept; units: steps and images."""
    source = Source("isaac", str(corpus.folder), "isaac_hdf5")

    def work() -> int:
        units = 0
        for ref in isaac_hdf5.plan(source, corpus.folder):
            recording = isaac_hdf5.read(ref, source, EMBODIMENT)
            units += recording.streams[STEPS].num_rows
            units += sum(video.count for video in recording.videos.values() if isinstance(video, ImageRef))
        return units

    return lambda: costed(work)


def h5py_arm(corpus: Corpus, cameras: Sequence[str]) -> Arm:
    """`[()]` of the same datasets, their names known beforehand; units: steps and images."""
    names = [*ISAAC, *(f"obs/{camera}" for camera in cameras)]

    def work() -> int:
        units = 0
        for path in corpus.files:
            with h5py.File(path, "r") as file:
                for demo in file["data"].values():
                    values = [demo[name][()] for name in names]
                    units += len(values[0]) * (1 + len(cameras))
        return units

    return lambda: costed(work)


def decoder_arm(path: Path, decoder: MediaDecoder) -> Arm:
    """Frame statistics of one video, decoded in the child process; units: frames."""
    ref = VideoRef(str(path), 0, END_NS)
    return lambda: costed(lambda: len(decoder.video_stats(ref).pts_ns), lambda: decoder.child_pid)


def _grey_mean(frame: av.VideoFrame) -> float:
    return float(frame.to_ndarray(format="gray").mean())


def _luma_mean(frame: av.VideoFrame) -> float:
    return float(np.frombuffer(frame.planes[0], np.uint8).mean())


def _untouched(_frame: av.VideoFrame) -> float:
    return 0.0


LOOPS = {"gray": _grey_mean, "plane": _luma_mean, "untouched": _untouched}


def pyav_arm(path: Path, loop: str) -> Arm:
    """A bare PyAV loop over one video: one thread, every frame's pixels touched as `loop` says; units: frames."""
    look = LOOPS[loop]

    def work() -> int:
        frames = 0
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_count = 1
            for frame in container.decode(stream):
                look(frame)
                frames += 1
        return frames

    return lambda: costed(work)


class TensorFlow:
    """A tf.data process that waits for passes, in its own interpreter, on the cores of this process."""

    ways = ("single/autotune", "single/none", "batch/autotune", "batch/none", "ragged/autotune", "ragged/none")

    def __init__(self, process: subprocess.Popen[str], version: str, files: int) -> None:
        self._process = process
        self._files = files
        self.version = version
        self.way = self.ways[0]

    def ask(self, way: str, files: int) -> Cost:
        """One pass of one way over the first `files` files; units: records."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"run {way} {files}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"tf.data ended with {self._process.wait()} in {way!r}; run benchmarks.tfdata_arm alone")
        said = json.loads(answer)
        return Cost(said["wall_s"], said["cpu_s"], said["records"])

    def choose(self, files: int) -> str:
        """The way that takes least CPU over the first files, each tried after a pass that traces it."""
        costs = {}
        for way in self.ways:
            self.ask(way, files)
            costs[way] = min(self.ask(way, files).cpu_s for _ in range(2))
        self.way = min(costs, key=lambda way: costs[way])
        self.ask(self.way, self._files)
        return self.way

    def arm(self) -> Cost:
        """One pass of the chosen way over the whole corpus."""
        return self.ask(self.way, self._files)


@contextmanager
def tensorflow(interpreter: Path, corpus: Corpus, shapes: Shapes, cameras: Sequence[str]) -> Iterator[TensorFlow]:
    """Start the tf.data side on a corpus; it ends with the context."""
    features: dict[str, tuple[str, tuple[int, ...]]] = {f"steps/{n}": ("float32", s) for n, s in shapes.items()}
    features |= {f"steps/{name}": ("float32", ()) for name in ("reward", "discount")}
    features |= {f"steps/{name}": ("int64", ()) for name in ("is_first", "is_last", "is_terminal")}
    features |= {"steps/language_instruction": ("string", ())}
    features |= {f"steps/observation/{camera}": ("string", ()) for camera in cameras}
    spec = corpus.folder / "tfdata.json"
    files = [str(path) for path in corpus.files]
    spec.write_text(json.dumps({"files": files, "features": features}))
    command = [str(interpreter), str(Path(__file__).with_name("tfdata_arm.py")), str(spec)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            first = process.stdout.readline()
            if not first:
                raise RuntimeError(f"{interpreter} ended with {process.wait()}; does it import tensorflow?")
            yield TensorFlow(process, json.loads(first)["tensorflow"], len(files))
        finally:
            process.stdin.close()
