"""How the shaped columns of a LeRobot file lie, worked out once per file; and where info.json says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from transforms.episode import TIMESTAMP, Finding
from transforms.schema import ACTION, FRAME_INDEX, STATE
from transforms.sources.lerobot_columns import BOOKKEEPING, DEFAULTS, NEXT_SUCCESS, has_lists, is_list
from transforms.sources.lerobot_meta import Dataset, Info, Modality
from transforms.sources.lerobot_plan import finding
from transforms.sources.lerobot_tasks import ANNOTATION, TASK, TaskColumn, is_instruction


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions in a shaped batch, None where there is no such column.

    `steps`: columns of the stream; `lists`: whether rows of some may differ in length; `clock`, `frames`: stored?
    """

    schema: pa.Schema
    dataset: Dataset
    steps: list[int]
    lists: bool
    clock: bool
    frames: bool
    index: int | None
    tasks: tuple[TaskColumn, ...]
    success: int | None
    findings: tuple[Finding, ...]


def layout_of(shaped: pa.Schema, stored: pa.Schema, dataset: Dataset) -> Layout:
    """The layout of shaped rows whose file has the schema `stored`."""
    names, types = shaped.names, shaped.types
    whole = {name: at for at, (name, kind) in enumerate(zip(names, types, strict=True)) if pa.types.is_integer(kind)}
    flags = {name: at for at, (name, kind) in enumerate(zip(names, types, strict=True)) if pa.types.is_boolean(kind)}
    texts = [TASK, *sorted(name for name in names if name.startswith(ANNOTATION))]
    found = feature_findings(stored, shaped, dataset.info)
    if dataset.modality is not None:
        found += modality_findings(shaped, dataset.info, dataset.modality)
    return Layout(
        shaped,
        dataset,
        [at for at, name in enumerate(names) if name not in BOOKKEEPING],
        has_lists(shaped),
        TIMESTAMP in names,
        FRAME_INDEX in names,
        whole.get("index"),
        tuple(TaskColumn(name, whole[name], is_instruction(name)) for name in texts if name in whole),
        flags.get(NEXT_SUCCESS, whole.get(NEXT_SUCCESS)),
        tuple(found),
    )


def _value_type(kind: pa.DataType) -> pa.DataType:
    while is_list(kind):
        kind = kind.value_type
    return kind


def feature_findings(stored: pa.Schema, steps: pa.Schema, info: Info) -> list[Finding]:
    """Where the declared features and the columns on disk disagree: absent, undeclared, of another shape or type."""
    found = []
    names = set(stored.names)
    for name, feature in sorted(info.features.items()):
        if feature.dtype in ("video", "image"):
            continue
        if name not in names:
            found.append(finding("metadata.feature_absent", 1, f"{name}: declared, no such column"))
            continue
        kind = _value_type(stored.field(name).type)
        declared, actual = feature.dtype.replace("double", "float64"), str(kind).replace("double", "float64")
        if declared and declared != actual.replace("halffloat", "float16").removeprefix("large_"):
            plain = {"float": "float32"}.get(actual, actual)
            if declared != plain:
                found.append(finding("metadata.dtype", 1, f"{name}: declared {declared}, stored {plain}"))
        index = steps.get_field_index(name)
        if feature.shape is not None and index >= 0 and pa.types.is_fixed_size_list(steps.field(index).type):
            width = steps.field(index).type.list_size
            if width != int(np.prod(feature.shape, dtype=object)):
                text = f"{name}: declared shape {list(feature.shape)}, stored width {width}"
                found.append(finding("metadata.shape", width, text))
    for name in sorted(names - set(info.features) - DEFAULTS):
        found.append(finding("metadata.feature_undeclared", 1, f"{name}: a column that info.json does not declare"))
    return found


def modality_findings(steps: pa.Schema, info: Info, modality: Modality) -> list[Finding]:
    """Where GR00T's modality.json names elements or columns that are not there."""
    found = []
    for default, parts in ((STATE, modality.state), (ACTION, modality.action)):
        for key, part in sorted(parts.items()):
            column = part.original_key or default
            index = steps.get_field_index(column)
            kind = steps.field(index).type if index >= 0 else pa.null()
            width = kind.list_size if pa.types.is_fixed_size_list(kind) else 1 if index >= 0 else 0
            if part.end is not None and part.end > width:
                text = f"modality.json: {key} is {column}[{part.start}:{part.end}]; the column holds {width}"
                found.append(finding("metadata.modality", part.end, text))
    for key, part in sorted(modality.video.items()):
        column = part.original_key or f"observation.images.{key}"
        if column not in info.features:
            found.append(
                finding("metadata.modality", 1, f"modality.json: {key} is {column}; info.json has no such camera")
            )
    present = DEFAULTS.union(steps.names)
    for key, part in sorted(modality.annotation.items()):
        column = part.original_key or f"annotation.{key}"
        if column not in present:
            found.append(finding("metadata.modality", 1, f"modality.json: {column} is no column"))
    return found
