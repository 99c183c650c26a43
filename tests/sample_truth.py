"""A generated sample with its truth, what the real command made of it, and the raw records read by other code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from apache_beam.io.tfrecordio import _TFRecordUtil
from numpy.typing import NDArray

from beam_pipeline.__main__ import main
from examples.make_sample import make_sample
from examples.sample.draw import CAMERAS
from examples.sample.flaws import FlawSizes
from tests.job import read_ledger
from tests.sources.rlds_files import example_class

Floats = NDArray[np.float64]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Curated:
    """One sample in `folder`/in, curated into `folder`/out."""

    folder: Path
    sizes: FlawSizes
    status: int

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @cached_property
    def truth(self) -> Row:
        return dict(json.loads((self.folder / "in" / "truth.json").read_text()))

    @cached_property
    def rows(self) -> Mapping[str, Row]:
        """Episode id -> what the truth says of it."""
        return {row["episode_id"]: row for row in self.truth["episodes"]}

    def flaw(self, kind: str) -> Row:
        """The one planted flaw of a kind."""
        (found,) = [flaw for flaw in self.truth["flaws"] if flaw["kind"] == kind]
        return dict(found)

    def arrays(self, episode_id: str) -> Mapping[str, Floats]:
        """The simulator's own arrays."""
        with np.load(self.folder / "in" / self.rows[episode_id]["arrays"]) as held:
            return {name: held[name] for name in held.files}

    @cached_property
    def ledger(self) -> Mapping[str, Row]:
        return read_ledger(self.output)

    def table(self, name: str) -> list[Row]:
        """All rows of a published table, read with DuckDB."""
        files = str(self.output / name / "*" / "*.parquet")
        rows = duckdb.sql(f"select * from read_parquet('{files}', hive_partitioning=true, union_by_name=true)")
        return [dict(zip(rows.columns, row, strict=True)) for row in rows.fetchall()]

    @cached_property
    def evidence(self) -> list[Row]:
        return self.table("evidence")

    def failed(self, check: str) -> list[Row]:
        """Findings of a check that broke its rule, in order of frames."""
        rows = [row for row in self.evidence if row["check"] == check and row["passed"] is False]
        return sorted(rows, key=lambda row: (row["episode_id"], row["first_frame"]))

    @cached_property
    def kept(self) -> list[str]:
        return sorted(name for name, row in self.ledger.items() if row["outcome"] == "kept")

    @cached_property
    def transitions(self) -> Mapping[str, pa.Table]:
        """Episode id -> its published rows in the order of the file, read with pyarrow."""
        table = ds.dataset(self.output / "transitions", partitioning="hive").to_table()
        ids = np.asarray(table["episode_id"].to_pylist())
        return {str(name): table.filter(pa.array(ids == name)) for name in np.unique(ids)}

    @cached_property
    def images(self) -> Mapping[tuple[str, str], list[bytes]]:
        """(RLDS episode id, camera) -> encoded images, framed by Beam and parsed by protobuf."""
        found: dict[tuple[str, str], list[bytes]] = {}
        example, count = example_class(), 0
        for path in sorted((self.folder / "in" / "rlds" / "1.0.0").glob("*.tfrecord-*")):
            with path.open("rb") as stream:
                for payload in _records(stream):
                    record = example()
                    record.ParseFromString(payload)
                    for camera in CAMERAS:
                        values = record.features.feature[f"steps/observation/{camera}"].bytes_list.value
                        found[f"sample_rlds/train/{count:06d}", camera] = [bytes(value) for value in values]
                    count += 1
        return found


def _records(stream: BinaryIO) -> Iterator[bytes]:
    """Records up to the end of the file or the cut one."""
    while True:
        try:
            payload = _TFRecordUtil.read_record(stream)
        except ValueError:
            return
        if payload is None:
            return
        yield payload


def curate_sample(folder: Path, seed: int, episodes: int, sizes: FlawSizes) -> Curated:
    """Generate a sample and run the real command on the configuration that lies in it."""
    make_sample(folder / "in", seed, episodes, sizes)
    status = main(["--config", str(folder / "in" / "sample.yaml"), "--output", str(folder / "out")])
    return Curated(folder, sizes, status)


def vectors(table: pa.Table, name: str) -> Floats:
    """A column as (T,) or (T, D) numbers, null as NaN."""
    return np.array(table[name].to_pylist(), np.float64)
