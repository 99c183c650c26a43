"""What the driver sends to a worker, and what comes back.

Without slots: frozen dataclasses that have some are pickled by Python code, which a bundle of one element would feel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from beam_pipeline.runner.blocks import Payload, Span
from beam_pipeline.runner.shuffle.read import KeyRange


@dataclass(frozen=True)
class StageSpec:
    """What a worker needs to open a stage: the plan, and by (transform, tag) the index of every side input."""

    job: str
    plan: Any
    side_inputs: Mapping[tuple[str, str], Any]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamInput:
    """Spans of blocks for one main input: the block is the argument at `position`, or `inline`."""

    transform_id: str
    position: int
    inline: Payload | None
    span: Span


@dataclass(frozen=True)
class EncodedInput:
    """Elements given as bytes: impulses, and the residuals of splittable DoFns."""

    transform_id: str
    elements: tuple[bytes, ...]


@dataclass(frozen=True)
class ShuffledInput:
    """A range of keys of a shuffle: per run stream its blocks in order, each a ref or a value."""

    transform_id: str
    keys: KeyRange
    streams: tuple[tuple[Any, ...], ...]


TaskInput = StreamInput | EncodedInput | ShuffledInput


@dataclass(frozen=True)
class BundleTask:
    """One attempt at one bundle. A replay takes the whole input whatever the limits.

    `log_level`: from which on the driver wants to be told of records.

    `kept`: of the last element, where the first time it was split, the part that is the bundle's own, encoded.
    """

    bundle: str
    stage: str
    inputs: tuple[TaskInput, ...]
    seconds: float
    nbytes_out: int
    inline_bytes: int
    log_level: int
    replay: bool = False
    kept: bytes | None = None


@dataclass(frozen=True)
class Written:
    """One output of a bundle: its info, and the payload itself where it is small."""

    transform_id: str
    info: Any
    inline: Any = None


@dataclass(frozen=True)
class Residual:
    """An element that a splittable DoFn left for later: encoded for the input `transform_id`, due after `delay_s`."""

    transform_id: str
    element: bytes
    delay_s: float


@dataclass(frozen=True)
class Unread:
    """How far a bundle that stopped early came: the input's index, and where to go on in it."""

    index: int
    position: int = 0
    partition: int = -1
    after_key: bytes | None = None


@dataclass(frozen=True)
class Failure:
    """An exception in user code, or the loss of an input: `lost` is then the id of Ray's object in hex."""

    stage: str
    error: str
    traceback: str
    preview: str
    pickled: bytes | None
    lost: str = ""


@dataclass(frozen=True)
class BundleResult:
    """What a bundle tells the driver; large outputs are separate objects in the order of `written`."""

    bundle: str
    written: tuple[Written, ...] = ()
    residuals: tuple[Residual, ...] = ()
    unread: Unread | None = None
    kept: bytes | None = None
    responses: tuple[bytes, ...] = ()
    finalize: bool = False
    elements: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    told: bytes | None = None
