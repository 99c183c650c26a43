"""Footers of LeRobot data files: columns against what is declared, where times begin and how they step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipeline.inspection.report import Notices
from beam_pipeline.inspection.video_headers import spaced
from transforms.episode import Finding
from transforms.sources.lerobot_columns import clock_findings, is_list
from transforms.sources.lerobot_layout import feature_findings, modality_findings
from transforms.sources.lerobot_meta import Dataset
from transforms.sources.lerobot_tables import EPISODE, parquet
from transforms.unreadable import Unreadable

READ_FOOTERS = {2: 128, 3: 4}
"""Footers read whole; a v3 file may have a row group for each of a thousand episodes."""


def read_footers(dataset: Dataset, files: Sequence[str], notices: Notices) -> None:
    """Hold evenly spaced files' columns and times against what is declared."""
    for name in spaced(files, READ_FOOTERS[dataset.info.version]):
        try:
            file = parquet(Path(dataset.root) / name)
        except Unreadable as error:
            if dataset.info.version == 3:  # of v2, where it was counted, it is noticed already
                notices.problem(error.problem)
            continue
        stored = file.schema_arrow
        shaped = with_widths(stored, file.metadata)
        found = feature_findings(stored, shaped, dataset.info)
        if dataset.modality is not None:
            found += modality_findings(shaped, dataset.info, dataset.modality)
        for finding in [*found, *times_of(file.metadata, dataset.info.fps)]:
            value = f", {finding.value:g} s" if finding.check == "timestamps.start_offset" else ""
            notices.add(finding.check, f"{finding.detail}{value} ({name})")


def with_widths(stored: pa.Schema, meta: pq.FileMetaData) -> pa.Schema:
    """The schema with every list column of one width as a flat fixed-size list, told by its number of values."""
    rows = meta.num_rows
    values: dict[str, int] = {}
    for group in range(meta.num_row_groups):
        for at in range(meta.num_columns):
            column = meta.row_group(group).column(at)
            top = column.path_in_schema.split(".list.")[0]
            values[top] = values.get(top, 0) + column.num_values
    fields = []
    for field in stored:
        count = values.get(field.name, 0)
        if is_list(field.type) and rows and count % rows == 0:
            inner = field.type
            while is_list(inner):
                inner = inner.value_type
            field = pa.field(field.name, pa.list_(inner, count // rows))
        fields.append(field)
    return pa.schema(fields)


def times_of(meta: pq.FileMetaData, fps: float | None) -> list[Finding]:
    """What statistics say of the clock: where each episode's times begin, and their mean step against `fps`."""
    paths = [meta.schema.column(at).path for at in range(meta.num_columns)]
    if "timestamp" not in paths or EPISODE not in paths:
        return []
    found: list[Finding] = []
    known: set[int] = set()
    clock, episode = paths.index("timestamp"), paths.index(EPISODE)
    for at in range(meta.num_row_groups):
        group = meta.row_group(at)
        times, number = group.column(clock).statistics, group.column(episode).statistics
        if times is None or number is None or not (times.has_min_max and number.has_min_max):
            continue
        if number.min != number.max or number.min in known or not isinstance(times.min, float):
            continue
        known.add(number.min)
        steps = np.linspace(times.min, times.max, group.num_rows) if group.num_rows > 1 else np.array([times.min])
        found += clock_findings(pa.array(np.rint(steps * 1e9).astype(np.int64)), fps)
    return found
