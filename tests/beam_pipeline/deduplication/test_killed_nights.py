"""A night that is killed in the midst: the index goes on as if there had been none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

from beam_pipeline.deduplication.job import DedupConfig, run_dedup
from beam_pipeline.output_folder import STAGING
from tests.beam_pipeline.deduplication.test_vector_nights import by_nights, corpus, files, write
from transforms.deduplication.parquet_documents import DocumentColumns
from transforms.deduplication.semantic import SemanticParams

CONFIG = DedupConfig(DocumentColumns(id="id", vector="vector", quality="quality"), semantic=SemanticParams(clusters=4))
"""What the flags say."""
FLAGS = ("--vector", "vector", "--id", "id", "--quality", "quality", "--clusters", "4")
LONGEST_S = 90.0


def kill_when_there_is(pattern: str, source: Path, output: Path, index: Path) -> None:
    """Run a night as a command and kill its whole session once a file in the index matches."""
    command = [sys.executable, "-m", "beam_pipeline", "dedup", "--input", str(source), "--output", str(output)]
    process = subprocess.Popen(
        [*command, "--index", str(index), *FLAGS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + LONGEST_S
    while not any(index.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no {pattern} in {LONGEST_S} s"
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("pattern", ["night=00001/documents/*.arrow", "night=00001/run/clusters/*.arrow"])
def test_after_a_killed_night_the_next_ones_come_to_the_same_bytes(tmp_path: Path, pattern: str) -> None:
    first, killed, last = corpus(7, 3, 150)
    undisturbed, other = tmp_path / "undisturbed", tmp_path / "other"
    for folder in (undisturbed, other):
        folder.mkdir()
    by_nights(undisturbed, [first, last, killed], CONFIG)

    by_nights(other, [first], CONFIG)
    source = write(other / "night2.parquet", killed)
    kill_when_there_is(pattern, source, other / "out2", other / "index")
    left = [path for path in (other / "index/night=00001").rglob("*") if path.is_file()]
    assert left, "it was killed before it wrote anything"
    assert (other / "out2" / STAGING).exists()
    for number, rows in ((1, last), (2, killed)):
        path = write(other / f"night{number}.parquet", rows)
        run_dedup([str(path)], other / f"out{number}", CONFIG, "FnApiRunner", index=other / "index")

    assert told(other) == told(undisturbed)
    assert len(list((other / "index/manifests").iterdir())) == 3


def told(folder: Path) -> dict[Path, object]:
    """All files of a folder; of documents the rows, since they also say which file they were read from."""
    return {
        path.relative_to(folder): pa.ipc.open_file(data).read_all().to_pylist() if "documents" in path.parts else data
        for path, data in files(folder).items()
    }
