"""Evidence of many episodes, and a first run that was decided by it, generated in place of recordings.

25 findings and about 150 shingles an episode, 4 % near copies, 2 % equal contents, 1 % quarantined. The raw data does
not exist, so a single episode read again would fail the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console

from beam_pipeline.carried import sink_text
from beam_pipeline.config import PipelineConfig
from beam_pipeline.decision import make_plan
from beam_pipeline.evidence_folder import commit_sources, stored_files
from beam_pipeline.output_folder import open_output
from beam_pipeline.publish import publish
from beam_pipeline.work import Work
from transforms.coders import to_json
from transforms.episode_rows import EPISODE_FIELDS
from transforms.evidence import StagedColumn
from transforms.ledger import LEDGER_SCHEMA
from transforms.measured import (
    EPISODES,
    EPISODES_SCHEMA,
    FINDINGS,
    FINDINGS_SCHEMA,
    LEFT,
    SHINGLES,
    SHINGLES_SCHEMA,
    load_measured,
    store_path,
)
from transforms.output_files import INCOMPLETE, TRANSITIONS, Part, PartReport, part_path
from transforms.output_schema import arrow_schema, list_of
from transforms.part_writer import SinkParams, open_part

SEED = 2026
FINDINGS_EACH = 25
SHINGLES_EACH = 150
JOINTS = 7
COLUMNS = tuple(
    StagedColumn(name, kind)
    for name, kind in (
        ("action", "list<item: float>"),
        ("episode_id", "string"),
        ("frame_index", "int64"),
        ("next.observation.state", "list<item: float>"),
        ("observation.state", "list<item: float>"),
        ("timestamp_ns", "int64"),
    )
)
CHECKS = ("physics.velocity_ratio", "quality.ldlj", "quality.idle_fraction", "timestamps.backward", "frames.frozen")
Rows = NDArray[np.int64]


def write_table(staging: Path, source: str, path: str, table: pa.Table, params: SinkParams) -> PartReport:
    """One file of a table."""
    with open_part(staging, path, table.schema, params, source) as (writer, reports):
        for batch in table.to_batches(max_chunksize=65_536):
            writer.write(batch)
    return reports[0]


def shingles(rng: np.random.Generator, count: int) -> tuple[list[bytes], Rows]:
    """Trajectory shingles of `count` episodes, and of each the episode that it shares its content with."""
    held = [np.sort(rng.integers(0, 2**63, SHINGLES_EACH, np.int64)) for _ in range(count)]
    same = np.arange(count)
    for row in rng.choice(np.arange(1, count), count * 6 // 100, replace=False):
        original = int(rng.integers(0, row))
        copy = held[original].copy()
        if rng.random() < 2 / 3:
            copy[rng.choice(SHINGLES_EACH, 8, replace=False)] = rng.integers(0, 2**63, 8, np.int64)
        else:
            same[row] = same[original]
        held[row] = np.unique(copy)
    return [one.astype("<u8").tobytes() for one in held], same


def episodes_table(ids: Sequence[str], contents: Sequence[str], steps: int) -> pa.Table:
    """Rows of measured episodes."""
    count = len(ids)
    known: dict[str, Any] = {
        "episode_id": ids,
        "content_id": contents,
        "n_steps": [steps + 1] * count,
        "n_transitions": [steps] * count,
        "start_ns": [0] * count,
        "end_ns": [steps * 50_000_000] * count,
        "duration_s": [steps / 20] * count,
        "embodiment": ["arm"] * count,
        "format": ["isaac_hdf5"] * count,
        "uri": [f"{name}.hdf5" for name in ids],
        "instruction": ["pick up the cube"] * count,
        "instruction_status": ["matched"] * count,
        "n_bytes": [steps * JOINTS * 12] * count,
        "columns": [to_json(COLUMNS).decode()] * count,
    }
    for name, kind in EPISODE_FIELDS:
        if name not in known:
            known[name] = [[]] * count if pa.types.is_list(kind) else [None] * count
    return pa.table([pa.array(known[f.name], f.type) for f in EPISODES_SCHEMA], schema=EPISODES_SCHEMA)


def findings_table(rng: np.random.Generator, count: int) -> pa.Table:
    """FINDINGS_EACH findings an episode in the order that they are stored in; a tenth of the values break a rule."""
    total = count * FINDINGS_EACH
    check = np.sort(rng.integers(0, len(CHECKS), (count, FINDINGS_EACH)), axis=1).reshape(-1)
    value = np.round(rng.exponential(0.1, total), 9)
    start = np.tile(np.arange(FINDINGS_EACH) * 50_000_000, count)
    columns = {
        "episode": pa.array(np.repeat(np.arange(count), FINDINGS_EACH)),
        "stage": pa.array([name.partition(".")[0] for name in CHECKS]).take(pa.array(check)),
        "check": pa.array(CHECKS).take(pa.array(check)),
        "value": pa.array(np.where(check == CHECKS.index("timestamps.backward"), 0.0, value)),
        "unit": pa.array(["ratio"] * total),
        "start_ns": pa.array(start),
        "end_ns": pa.array(start + 50_000_000),
        "first_frame": pa.array(start // 50_000_000),
        "last_frame": pa.array(start // 50_000_000 + 1),
        "status": pa.array(["measured"] * total),
        "detail": pa.array(["joint 3 of the arm, whole episode"] * total),
    }
    return pa.table([columns[name] for name in FINDINGS_SCHEMA.names], schema=FINDINGS_SCHEMA)


def make_source(staging: Path, rng: np.random.Generator, source: str, count: int, steps: int) -> list[PartReport]:
    """Stored evidence of one source, in parts as the pipeline cuts them."""
    params, in_place = SinkParams(row_group_rows=65_536), SinkParams("arrow", "none", row_group_rows=65_536)
    bodies, same = shingles(rng, count)
    ids = [f"{source}/{row:06d}" for row in range(count)]
    contents = [f"{source}{row:028x}" for row in same.tolist()]
    reports = []
    part_rows = 200_000 // FINDINGS_EACH
    for index, start in enumerate(range(0, count, part_rows)):
        own = slice(start, min(count, start + part_rows))
        size = own.stop - own.start
        words = ["pick up the cube"] * size, [b""] * size
        prints = pa.table([ids[own], contents[own], *words, bodies[own], [[]] * size], schema=SHINGLES_SCHEMA)
        for name, table, how in (
            (EPISODES, episodes_table(ids[own], contents[own], steps), params),
            (FINDINGS, findings_table(rng, size), params),
            (SHINGLES, prints, in_place),
        ):
            reports.append(write_table(staging, source, store_path(source, name, index, how), table, how))
    lost = {
        "episode_id": [f"{source}/lost{row:06d}" for row in range(count // 100)],
        "outcome": ["quarantined"] * (count // 100),
        "rule": ["truncated"] * (count // 100),
    }
    left = pa.table(
        [pa.array(lost.get(f.name, [None] * (count // 100)), f.type) for f in LEDGER_SCHEMA], schema=LEDGER_SCHEMA
    )
    return [*reports, write_table(staging, source, store_path(source, LEFT, 0, params), left, params)]


def steps_table(rng: np.random.Generator, part: Part, steps: int, schema: pa.Schema) -> pa.Table:
    """Generated steps of a part's episodes."""
    count = len(part.members) * steps
    offsets = pa.array(np.arange(count + 1) * JOINTS, pa.int32())
    vectors = pa.ListArray.from_arrays(
        offsets, pa.array(rng.standard_normal(count * JOINTS, np.float32)), type=list_of(pa.float32())
    )
    frame = np.tile(np.arange(steps), len(part.members))
    columns = {
        "episode_id": pa.array([m.episode_id for m in part.members]).take(
            pa.array(np.repeat(np.arange(len(part.members)), steps))
        ),
        "frame_index": pa.array(frame),
        "timestamp_ns": pa.array(frame * 50_000_000),
    }
    return pa.table([columns.get(name, vectors) for name in schema.names], schema=schema)


def make_folder(output: Path, config: PipelineConfig, episodes: int, steps: int) -> None:
    """Evidence of all sources, and the run that was first decided by it, as it would have been published."""
    rng = np.random.default_rng(SEED)
    names = [source.name for source in config.sources]
    with open_output(output, config.config_hash, config.measuring.hash) as held:
        reports = [r for s in names for r in make_source(held.staging, rng, s, episodes // len(names), steps)]
        work = Work(config, Console(quiet=True), "DirectRunner", None)
        commit_sources(held.path, held.staging, config, names, reports, work.version)
        plan = make_plan(
            held, config, load_measured(stored_files(held.path, config)), [], {}, work.version, staged=True
        )
        files = list(plan.files)
        schema = arrow_schema(plan.agreed)
        for part in plan.parts:
            for table, rows in ((TRANSITIONS, steps), (INCOMPLETE, 1)):
                path = part_path(table, part.source, part.index, config.sink.extension)
                written = steps_table(rng, part, rows, schema)
                files.append(write_table(held.staging, part.source, path, written, config.sink))
        publish(held, files, work.version, work.summary(plan, files), sink_text(config.sink))


def write_config(folder: Path, sources: int, limit: float) -> Path:
    """A configuration of sources whose raw data is not there."""
    lines = [f"  - {{name: s{index}, path: raw/s{index}.hdf5, embodiment: arm}}" for index in range(sources)]
    rules = f"{{physics.velocity_ratio: {{max: {limit}}}, frames.frozen: {{max: 0.9}}}}"
    path = folder / f"limit{limit}.yaml"
    path.write_text("\n".join(["sources:", *lines, "embodiments: {arm: {}}", f"select: {{rules: {rules}}}"]) + "\n")
    return path
