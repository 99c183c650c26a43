"""Runs the real command on a small configuration and reads its ledger back with DuckDB."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beam_pipeline.__main__ import main

REAL_DATA = Path(__file__).parents[1] / "examples" / "real_data.yaml"
PANDA = """
  panda:
    rate_hz: 20
"""


@dataclass(frozen=True)
class Job:
    """Exit status and the ledger by episode id."""

    status: int
    output: Path
    ledger: Mapping[str, Mapping[str, Any]]

    def outcomes(self) -> dict[str, str]:
        """Episode id -> outcome."""
        return {name: row["outcome"] for name, row in self.ledger.items()}


def read_ledger(output: Path) -> dict[str, dict[str, Any]]:
    """The whole ledger; fails where an id appears twice."""
    import duckdb  # not in TensorFlow's environment

    files = str(output / "ledger/*/*.parquet")
    rows = duckdb.sql(f"select * from read_parquet('{files}', hive_partitioning=true, union_by_name=true)")
    names = rows.columns
    records = [dict(zip(names, row, strict=True)) for row in rows.fetchall()]
    ledger = {record["episode_id"]: record for record in records}
    assert len(ledger) == len(records), "an episode id appears twice in the ledger"
    return ledger


def digests(output: Path) -> dict[str, str]:
    """Every published data file with the hash of its bytes."""
    kinds = (".parquet", ".mp4", ".arrow")
    data = [p for p in output.rglob("*") if p.is_file() and (p.suffix in kinds or p.name == "statistics.json")]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in data}


def write_config(folder: Path, sources: str, more: str = "", embodiments: str = PANDA) -> Path:
    """A configuration of `sources:` (YAML list), with the Panda embodiment where no other is given."""
    config = folder / "job.yaml"
    config.write_text(f"sources:\n{sources}\nembodiments:{embodiments}{more}\n", encoding="utf-8")
    return config


def run_job(
    folder: Path, sources: str, more: str = "", *flags: str, output: str = "out", embodiments: str = PANDA
) -> Job:
    """Write a configuration and curate what it names."""
    config = write_config(folder, sources, more, embodiments)
    status = main(["--config", str(config), "--output", str(folder / output), *flags])
    published = (folder / output / "_manifest.json").exists()
    return Job(status, folder / output, read_ledger(folder / output) if published else {})
