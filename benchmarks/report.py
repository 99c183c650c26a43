"""Time, memory and size of a report: `python -m benchmarks.report --episodes 100000`.

A folder as a run leaves it is written from random values: every check that a robot with two cameras gets, a hundred
inputs that could not be read among them, and noise for pictures, which JPEG packs worst.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import FRAMES, MANIFESTS, REPORT, SUMMARY, Manifest
from beam_pipeline.report.choose import choose
from beam_pipeline.report.distributions import worst_of_each
from beam_pipeline.report.looks import CAMERAS, CURVES, PICTURES, POINTS, Curve, Look, Strip, write_looks
from beam_pipeline.report.tables import read_ledger, read_measures
from beam_pipeline.summary import RunSummary
from transforms.coders import to_json
from transforms.episode_rows import episodes_schema
from transforms.ledger import EVIDENCE_SCHEMA, LEDGER_SCHEMA
from transforms.media_thumbnails import HEIGHT, QUALITY, WIDTH
from transforms.output_files import EPISODES, EVIDENCE, LEDGER, PartReport, part_path
from transforms.select import DEFAULT_RULES

SOURCES = 4
CHECKS = (
    *((f"alignment.{name}", 1) for name in ("drop_rate", "jitter_ms", "max_gap_ms")),
    *((f"timestamps.{name}", 1) for name in ("backward", "equal", "missing")),
    *((f"frames.{name}", 2) for name in ("black", "blank", "clipped", "frozen", "frozen_s", "missing", "repeated")),
    *((f"integrity.{name}", 1) for name in ("nan", "transitions", "broken_transitions")),
    *((f"physics.{name}", 1) for name in ("position_excess", "velocity_ratio", "jump_ratio", "encoder_noise")),
    *((f"quality.{name}", 1) for name in ("ldlj", "sparc", "idle_fraction", "longest_pause_s", "gripper_flips")),
    ("grounding.status", 1),
)
"""Checks, and findings of each per episode."""


def write_folder(folder: Path, episodes: int, seed: int) -> None:
    """A published folder of the given size, without steps."""
    rng = np.random.default_rng(seed)
    reports = []
    for source in (f"source {index}" for index in range(SOURCES)):
        count = episodes // SOURCES
        names = [f"{source}/train/{index:06d}" for index in range(count)]
        reports += [
            _write(folder, LEDGER, source, _ledger(names, rng)),
            _write(folder, EVIDENCE, source, _evidence(names, rng)),
            _write(folder, EPISODES, source, _episodes(names, rng)),
        ]
    manifest = Manifest(1, None, "generated", "0", tuple(reports))
    (folder / MANIFESTS).mkdir()
    (folder / MANIFESTS / "00000001.json").write_bytes(to_json(manifest))
    began, ended = "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"
    summary = RunSummary(began, ended, 1.0, "generated", "0", "x", (), (), ())
    (folder / SUMMARY).write_bytes(to_json(summary))


def _write(folder: Path, table: str, source: str, rows: pa.Table) -> PartReport:
    path = folder / part_path(table, source, 0, "parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, compression="zstd", row_group_size=65536)
    return PartReport(path.relative_to(folder).as_posix(), rows.num_rows, path.stat().st_size, "", source)


def _padded(schema: pa.Schema, columns: dict[str, object], rows: int) -> pa.Table:
    filled = [pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(rows, f.type) for f in schema]
    return pa.table(filled, schema=schema)


def _ledger(names: Sequence[str], rng: np.random.Generator) -> pa.Table:
    count = len(names)
    outcome = rng.choice(["kept", "rejected", "duplicate", "quarantined"], count, p=[0.8, 0.15, 0.045, 0.005])
    rules = {"rejected": list(DEFAULT_RULES), "duplicate": ["duplicate.trajectory"], "quarantined": ["truncated"]}
    rule = [rng.choice(rules[o]) if o in rules else "" for o in outcome.tolist()]
    columns: dict[str, object] = {
        "episode_id": names,
        "content_id": ["" if o == "quarantined" else f"{i:032x}" for i, o in enumerate(outcome.tolist())],
        "start_ns": np.zeros(count, np.int64),
        "end_ns": rng.integers(2e9, 60e9, count),
        "outcome": outcome,
        "stage": ["select"] * count,
        "rule": rule,
        "value": np.where(outcome == "kept", np.nan, rng.random(count)),
        "threshold": np.where(outcome == "rejected", 0.5, np.nan),
        "unit": ["1"] * count,
        "detail": [f"what was found in {name}" for name in names],
        "duplicate_of": [names[0] if o == "duplicate" else None for o in outcome.tolist()],
        "uri": [f"data/{name}.hdf5" for name in names],
        "n_steps": rng.integers(40, 1200, count),
    }
    return _padded(LEDGER_SCHEMA, columns, count)


def _evidence(names: Sequence[str], rng: np.random.Generator) -> pa.Table:
    checks = [check for check, times in CHECKS for _ in range(times)]
    rows = len(names) * len(checks)
    check = np.tile(np.asarray(checks, object), len(names))
    value = rng.gamma(2.0, 0.1, rows)
    ruled = np.isin(check, list(DEFAULT_RULES))
    limit = np.asarray([DEFAULT_RULES[c].max if c in DEFAULT_RULES else np.nan for c in checks], np.float64)
    threshold = np.tile(limit, len(names))
    columns: dict[str, object] = {
        "episode_id": np.repeat(np.asarray(names, object), len(checks)),
        "content_id": np.repeat(np.asarray(names, object), len(checks)),
        "stage": np.full(rows, "quality", object),
        "check": check,
        "value": value,
        "unit": np.full(rows, "fraction", object),
        "threshold": pa.array(threshold, mask=~ruled),
        "passed": pa.array(value <= threshold, mask=~ruled),
        "status": np.full(rows, "measured", object),
        "detail": np.full(rows, "matched: camera wrist", object),
    }
    return _padded(EVIDENCE_SCHEMA, columns, rows)


def _episodes(names: Sequence[str], rng: np.random.Generator) -> pa.Table:
    columns: dict[str, object] = {
        "episode_id": names,
        "instruction": [f"put object {index} into the box" for index in rng.integers(0, 5000, len(names))],
        "instruction_status": ["matched"] * len(names),
    }
    return _padded(episodes_schema([]), columns, len(names))


def write_pictures(folder: Path, seed: int) -> int:
    """As many pictures as a report may show, of noise; returns how many episodes have them."""
    rng = np.random.default_rng(seed)
    curated = CuratedSet(folder)
    ledger = read_ledger(curated)
    worst = {check: worst_of_each(found) for check, found in read_measures(curated, ledger)[0].items()}
    chosen = choose(ledger, worst).episodes()
    looks = []
    for choice in chosen:
        curves = tuple(Curve(f"joint {i}", tuple(rng.random(POINTS).round(5).tolist())) for i in range(CURVES))
        strips = tuple(
            Strip(f"camera {i}", tuple(range(PICTURES)), tuple(_noise(rng) for _ in range(PICTURES)))
            for i in range(CAMERAS)
        )
        content = str(ledger.row(choice.row)["content_id"])
        at = tuple(range(POINTS))
        looks.append(Look(choice.episode_id, content, POINTS, "observation.state", "", at, curves, strips))
    write_looks(looks, folder / FRAMES)
    return len(chosen)


def _noise(rng: np.random.Generator) -> bytes:
    out = io.BytesIO()
    pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue()


def main() -> int:
    """Write the folder, draw its report, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), given.episodes, given.seed)
        shown = write_pictures(Path(folder), given.seed)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "beam_pipeline", "report", "--output", folder], check=True)
        wall_s = time.perf_counter() - started
        size = (Path(folder) / REPORT).stat().st_size
        peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    findings = given.episodes * sum(times for _, times in CHECKS)
    print(
        f"{given.episodes:,} episodes, {findings:,} findings: the command takes {wall_s:.1f} s and {peak_mib:.0f} MiB; "
        f"the page has {size / 1e6:.2f} MB, {shown} episodes with pictures"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
