"""What flows through the graph: recordings, episodes, references to media, and findings about them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import pyarrow as pa
import xxhash

TIMESTAMP = "timestamp_ns"
STEPS = "steps"
"""Name of the stream that holds one row per step on one clock; every recording has it after alignment."""
VIDEO_STREAM = "video."
"""Prefix of the stream that lists a camera's frames: `timestamp_ns`, `pts_ns` (time inside the file)."""
IMAGES = "observation.images."
"""Prefix of the step columns that say which frame of a camera belongs to a step."""
PTS_SUFFIX = ".pts_ns"
INDEX_SUFFIX = ".index"
InstructionStatus = Literal["matched", "mismatch", "generic", "missing"]
"""What grounding says of an episode's instruction."""


class VideoRef(msgspec.Struct, frozen=True, tag="video"):
    """A window of a video file; recording time `origin_ns` is shown at `start_ns` of the file's own clock."""

    uri: str
    start_ns: int
    end_ns: int
    origin_ns: int = 0
    content_hash: str = ""
    depth: bool = False


class ImageRef(msgspec.Struct, frozen=True, tag="images"):
    """A camera's images inside a container file: `place` is what the format's reader needs to find them.

    `n_bytes` is the size of all of them as stored, 0 where it is unknown; it only steers how much goes in one file.
    """

    uri: str
    place: str
    count: int
    content_hash: str = ""
    depth: bool = False
    n_bytes: int = 0


@dataclass(frozen=True)
class CameraModel:
    """Pinhole camera: `intrinsics` row-major 3x3 px, `distortion` coefficients, `extrinsics` row-major 4x4 m."""

    width: int
    height: int
    intrinsics: tuple[float, ...] = ()
    distortion: tuple[float, ...] = ()
    extrinsics: tuple[float, ...] = ()
    extrinsics_frame: str = "unknown"
    codec: str = "unknown"


@dataclass(frozen=True)
class Utterance:
    """An instruction, valid in `[start_ns, end_ns)` of recording time, or throughout where both are None."""

    text: str
    start_ns: int | None = None
    end_ns: int | None = None


@dataclass(frozen=True)
class Finding:
    """One measurement: evidence, never a verdict.

    `status` is `measured` or `not_run` (then `detail` says what is undeclared or absent). `interval` is
    `[start_ns, end_ns]`, both inclusive, on the recording's clock; `frames` the inclusive range of step indices.
    """

    stage: str
    check: str
    value: float | None = None
    unit: str = ""
    interval: tuple[int, int] | None = None
    frames: tuple[int, int] | None = None
    detail: str = ""
    status: Literal["measured", "not_run"] = "measured"


@dataclass(frozen=True)
class RecordingRef:
    """One planned input. `place` is the reader's own JSON; `problem` is set where planning already failed."""

    recording_id: str
    source: str
    format: str
    uri: str
    place: str = ""
    split: str = ""
    problem: Problem | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Problem:
    """Why an input cannot be read: `rule` is a stable code (`truncated`, `declared_absent`), `detail` is for people."""

    rule: str
    detail: str


@dataclass(frozen=True)
class Recording:
    """Uncut and multi-rate: every stream has `timestamp_ns: int64` (null throughout where no rate is known).

    `explicit` says that the format itself marks this recording as one episode. `attributes` are the format's
    own metadata, each value as JSON. `conventions` names what the embodiment declared, `unknown` elsewhere.
    `reference` is the stream whose clock the steps take where the configuration names none.
    """

    recording_id: str
    source: str
    embodiment: str
    uri: str
    format: str
    streams: Mapping[str, pa.RecordBatch]
    videos: Mapping[str, VideoRef | ImageRef] = field(default_factory=dict)
    cameras: Mapping[str, CameraModel] = field(default_factory=dict)
    utterances: tuple[Utterance, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=dict)
    explicit: bool = True
    success: bool | None = None
    findings: tuple[Finding, ...] = ()
    reference: str = ""


@dataclass(frozen=True)
class Episode:
    """One cut episode: `steps` holds T rows on one clock, raw columns beside canonical ones.

    `frame_hashes` are by camera T hashes of what the steps show (transforms/frame_hashes.py), once frames were decoded.
    """

    episode_id: str
    source: str
    embodiment: str
    uri: str
    format: str
    steps: pa.RecordBatch
    parent_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    videos: Mapping[str, VideoRef | ImageRef] = field(default_factory=dict)
    cameras: Mapping[str, CameraModel] = field(default_factory=dict)
    utterances: tuple[Utterance, ...] = ()
    instruction: str | None = None
    instruction_status: str = "missing"
    attributes: Mapping[str, str] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=dict)
    success: bool | None = None
    content_id: str = ""
    findings: tuple[Finding, ...] = ()
    frame_hashes: Mapping[str, bytes] = field(default_factory=dict)

    def with_findings(self, *found: Finding) -> Episode:
        """The same episode with more evidence."""
        return replace(self, findings=self.findings + found)


def nfc(text: str) -> str:
    """Text as it is compared and hashed: NFC, outer blanks gone."""
    return unicodedata.normalize("NFC", text).strip()


def hash_columns(batch: pa.RecordBatch, names: list[str], into: xxhash.xxh3_128) -> None:
    """Feed columns to a hash as little-endian float32, time relative to the first step, nulls marked."""
    import numpy as np

    from transforms.arrays import matrix

    for name in names:
        column = batch.column(name)
        if name == TIMESTAMP:
            times = column.to_numpy(zero_copy_only=False)
            values = (times - times[0]).astype("<f8") if len(times) and column.null_count == 0 else np.zeros(0)
            values = np.round(values / 1e3)  # microseconds: float seconds and integer stamps agree
        else:
            values = matrix(column)
            if values is None:
                continue
        into.update(name.encode())
        into.update(np.asarray(values.shape, "<i8").tobytes())
        into.update(np.ascontiguousarray(values.astype("<f4") + 0.0).tobytes())


def content_id(episode: Episode) -> str:
    """xxh3-128 of the float32 streams, relative time, NFC instruction and media hashes, as 32 hex digits."""
    digest = xxhash.xxh3_128()
    hash_columns(episode.steps, sorted(episode.steps.schema.names), digest)
    for utterance in episode.utterances:
        digest.update(nfc(utterance.text).encode())
    for camera in sorted(episode.videos):
        ref = episode.videos[camera]
        digest.update(f"{camera}:{ref.content_hash}".encode())
        if isinstance(ref, VideoRef):
            digest.update(f"{ref.start_ns}:{ref.end_ns}".encode())
    return digest.hexdigest()
