"""What decides: small rows about episodes. No pixel and no step crosses a shuffle in these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transforms.episode import Episode, Finding

Outcome = Literal["kept", "rejected", "duplicate", "quarantined", "cut"]
Channel = Literal["exact", "trajectory"]


@dataclass(frozen=True)
class FrameSample:
    """Some frames of one camera; copies of a path sample the same places of it.

    `keys` are K little-endian uint64, ascending: the path's shingles where each frame is shown. `hashes` are K times 32
    bytes (transforms/frame_hashes.py).
    """

    camera: str
    keys: bytes
    hashes: bytes


@dataclass(frozen=True)
class Fingerprint:
    """What deduplication sees of an episode. Shingles are sorted unique uint64, little-endian bytes."""

    episode_id: str
    content_id: str
    instruction: str
    instruction_shingles: bytes = b""
    trajectory_shingles: bytes = b""
    frames: tuple[FrameSample, ...] = ()


@dataclass(frozen=True)
class StagedColumn:
    """A column of staged steps and its Arrow type as text, so that one schema can be agreed for the whole output."""

    name: str
    type: str


@dataclass(frozen=True)
class Evidence:
    """One episode with all that was measured of it; its steps wait at `staged`, relative to the staging folder.

    `head` is the episode without steps and findings: what its row of the episodes table says beside the measures.
    """

    episode_id: str
    source: str
    uri: str
    content_id: str
    n_steps: int
    n_transitions: int
    n_bytes: int
    staged: str
    fingerprint: Fingerprint
    instruction: str | None = None
    instruction_status: str = "missing"
    parent_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    columns: tuple[StagedColumn, ...] = ()
    cameras: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    head: Episode | None = None


@dataclass(frozen=True)
class DuplicateEdge:
    """Two episodes that were verified to be the same: `similarity` is exact Jaccard (1.0 for exact content).

    `frames` and `instruction` are what the other channels say, None where one abstained.
    """

    a: str
    b: str
    channel: Channel
    similarity: float
    relabelled: bool = False
    frames: float | None = None
    instruction: float | None = None


@dataclass(frozen=True)
class DuplicateCluster:
    """A connected component of verified edges; `members` sorted, `cluster_id` is the smallest member."""

    cluster_id: str
    members: tuple[str, ...]
    edges: tuple[DuplicateEdge, ...]


@dataclass(frozen=True)
class JudgedFinding:
    """A finding after the rules: `threshold` and `passed` are None where no rule speaks of it or it was not run."""

    finding: Finding
    threshold: float | None = None
    passed: bool | None = None


@dataclass(frozen=True)
class Decision:
    """The outcome of one episode, with the rule that decided it."""

    evidence: Evidence
    outcome: Outcome
    judged: tuple[JudgedFinding, ...] = ()
    stage: str = ""
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    detail: str = ""
    duplicate_of: str | None = None


@dataclass(frozen=True)
class LedgerRow:
    """One planned input, or one child cut out of it. Conservation: every input has exactly one row."""

    episode_id: str
    source: str
    outcome: Outcome
    content_id: str = ""
    parent_id: str | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    stage: str = ""
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    unit: str = ""
    detail: str = ""
    duplicate_of: str | None = None
    uri: str = ""
    n_steps: int | None = None
    n_children: int | None = None
