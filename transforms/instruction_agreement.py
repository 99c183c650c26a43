"""Whether an episode's instruction says what those of the episodes say that move alike: swapped labels stand out.

Needs the vectors of instructions, so it runs where `embedding.text` is configured. Of each episode the path is brought
to a few points and each number to the source's spread; of the nearest other episodes the cosines of instructions are
averaged and set against the source's own mean, as Cohen's kappa does with chance: 1 where the neighbours say the same,
0 where they agree no more than any two episodes of the source, below where less.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from transforms.arrays import Floats, column_matrix
from transforms.coders import ArrowCoder, from_json
from transforms.embeddings import TEXT, BlockKey
from transforms.episode import Episode, Finding
from transforms.evidence import Evidence
from transforms.handlers.blocks import Embedded
from transforms.instruction_grounding import NAME, InstructionGroundingParams
from transforms.measure import measured, not_run
from transforms.schema import END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, STATE

AGREEMENT = "grounding.text_agreement"
POINTS = 8
"""Points that a path is brought to, at equal steps."""
MOST_REFERENCES = 4096
"""Episodes of a source that the others are compared with: those of the smallest hashes where there are more."""
_STEPS_A_SPREAD, _FARTHEST = 16.0, 127
"""A number is kept in sixteenths of its standard deviation, to 127: sums of whole numbers are exact in any order."""
_LEAST_VARIETY = 0.02
"""Of one minus the mean cosine of two instructions: with less the source says one thing, and none can stand out."""
_BLOCK = 1024


@dataclass(frozen=True)
class Spoken:
    """What is known of one episode: its text and path (float32 bytes), or its text's vector, or both, or a result."""

    source: str
    episode_id: str
    text: str = ""
    path: bytes = b""
    codes: bytes = b""
    found: Finding | None = None
    evidence: Evidence | None = None


class SpokenCoder(ArrowCoder):
    """Coder of what is said and moved."""

    kind = Spoken


beam.coders.registry.register_coder(Spoken, SpokenCoder)


def path_of(steps: pa.RecordBatch) -> bytes:
    """POINTS poses (POINTS, D) float32 of the joints, else the end effector, else the state; empty where none is whole.

    Joints and poses gain the gripper. Steps with a gap are left out.
    """
    for name in (JOINT_POSITION, END_EFFECTOR_POSE, STATE):
        values = column_matrix(steps, name)
        if values is None or not values.shape[1]:
            continue
        gripper = column_matrix(steps, GRIPPER) if name != STATE else None
        whole = values if gripper is None else np.hstack([values, gripper])
        whole = whole[np.isfinite(whole).all(axis=1)]
        if len(whole) < 2:
            continue
        at = np.linspace(0, len(whole) - 1, POINTS)
        low = np.minimum(at.astype(np.int64), len(whole) - 2)
        share = (at - low)[:, None]
        return ((1 - share) * whole[low] + share * whole[low + 1]).astype("<f4").tobytes()
    return b""


def spoken(episode: Episode) -> Spoken:
    """An episode's instruction, where it names a deed, and its path."""
    text = "" if episode.instruction_status == "generic" else episode.instruction or ""
    return Spoken(episode.source, episode.episode_id, text, path_of(episode.steps))


def vector_of(embedded: Embedded) -> Iterator[Spoken]:
    """The vector of an instruction; none where the model gave none."""
    key = from_json(embedded.key, BlockKey)
    if key.channel == TEXT and embedded.ids:
        yield Spoken(key.source, key.episode_id, codes=embedded.codes[0].tobytes())


def _whole_numbers(paths: NDArray[np.float32]) -> Floats:
    """(N, D) paths in sixteenths of each number's standard deviation in the source."""
    values = paths.astype(np.float64)
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.clip(np.rint(_STEPS_A_SPREAD * scaled), -_FARTHEST, _FARTHEST)


def nearest(paths: NDArray[np.float32], references: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """(N, count) places in `references` of the nearest paths (N, D) but itself; of equally near the first."""
    whole = _whole_numbers(paths)
    known = whole[references]
    lengths = (known**2).sum(axis=1)
    found = []
    for start in range(0, len(whole), _BLOCK):
        some = whole[start : start + _BLOCK]
        far = (some**2).sum(axis=1)[:, None] + lengths - 2 * (some @ known.T)
        far[references == np.arange(start, start + len(some))[:, None]] = np.inf
        found.append(np.argsort(far, axis=1, kind="stable")[:, :count])
    return np.concatenate(found)


def agreements(
    paths: NDArray[np.float32], vectors: Floats, references: NDArray[np.int64], count: int
) -> tuple[Floats, NDArray[np.int64], float]:
    """Agreement (N,) of each episode with its `count` nearest (N, count), and the mean cosine of two of the source.

    paths (N, D), vectors (N, E) of any length, `references` (R,) places among the N.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    known = unit[references]
    chosen = nearest(paths, references, count)
    near = np.concatenate(
        [
            np.einsum("ne,nke->n", unit[at : at + _BLOCK], known[chosen[at : at + _BLOCK]]) / count
            for at in range(0, len(unit), _BLOCK)
        ]
    )
    size = len(known)
    chance = float((np.square(known.sum(axis=0)).sum() - size) / (size * (size - 1)))
    return (near - chance) / max(1 - chance, _LEAST_VARIETY), references[chosen], chance


def judge(rows: Sequence[Spoken], params: InstructionGroundingParams) -> Iterator[Spoken]:
    """The finding of each of a source's episodes; those whose paths have as many numbers are compared."""
    kinds: dict[int, list[Spoken]] = defaultdict(list)
    for row in sorted(rows, key=lambda one: one.episode_id):
        reason = "no instruction that names a deed" if not row.text else ""
        reason = reason or ("no joints, pose or state to compare" if not row.path else "")
        if reason or not row.codes:
            yield _said(row, not_run(NAME, AGREEMENT, reason or "its instruction has no vector", "1"))
        else:
            kinds[len(row.path)].append(row)
    for members in kinds.values():
        yield from _judge_like(members, params)


def _judge_like(members: Sequence[Spoken], params: InstructionGroundingParams) -> Iterator[Spoken]:
    paths = np.stack([np.frombuffer(one.path, "<f4") for one in members])
    vectors = np.stack([np.frombuffer(one.codes, np.int8) for one in members]).astype(np.float64)
    references = np.arange(len(members))
    if len(members) > MOST_REFERENCES:
        order = sorted(range(len(members)), key=lambda i: xxhash.xxh3_64_intdigest(members[i].episode_id.encode()))
        references = np.sort(np.array(order[:MOST_REFERENCES]))
    if len(members) < params.min_episodes:
        reason = f"{len(members)} episodes of the source can be compared, fewer than {params.min_episodes}"
        yield from (_said(one, not_run(NAME, AGREEMENT, reason, "1")) for one in members)
        return
    values, chosen, chance = agreements(paths, vectors, references, params.neighbours)
    if 1 - chance < _LEAST_VARIETY:
        reason = "all instructions of the source say the same: none can stand out"
        yield from (_said(one, not_run(NAME, AGREEMENT, reason, "1")) for one in members)
        return
    for one, value, near in zip(members, values, chosen, strict=True):
        texts = Counter(members[i].text for i in near)
        text, count = min(texts.items(), key=lambda item: (-item[1], item[0]))
        detail = f"of the {params.neighbours} that move most alike {count} say {text!r}"
        yield _said(one, measured(NAME, AGREEMENT, float(value), "1", detail=detail))


def _said(row: Spoken, found: Finding) -> Spoken:
    return Spoken(row.source, row.episode_id, found=found)


def _merged(rows: Iterable[Spoken]) -> list[Spoken]:
    """Text and path of each episode with the vector of its text; a vector without an episode is none."""
    held = list(rows)
    codes = {row.episode_id: row.codes for row in held if row.codes}
    return [replace(row, codes=codes.get(row.episode_id, b"")) for row in held if not row.codes]


class _Judge(beam.DoFn):
    def __init__(self, params: InstructionGroundingParams) -> None:
        self._params = params

    def process(self, element: tuple[str, Iterable[Spoken]]) -> Iterator[Spoken]:
        yield from judge(_merged(element[1]), self._params)


class _AddFinding(beam.DoFn):
    """(episode id, its evidence and its finding) -> the evidence with the finding."""

    def process(self, element: tuple[str, Iterable[Spoken]]) -> Iterator[Evidence]:
        rows = list(element[1])
        found = tuple(row.found for row in rows if row.found is not None)
        yield from (replace(r.evidence, findings=(*r.evidence.findings, *found)) for r in rows if r.evidence)


def _by_source(row: Spoken) -> tuple[str, Spoken]:
    return row.source, row


def _by_episode(row: Spoken) -> tuple[str, Spoken]:
    return row.episode_id, row


def _as_row(evidence: Evidence) -> Spoken:
    return Spoken(evidence.source, evidence.episode_id, evidence=evidence)


class CompareInstructions(beam.PTransform):
    """(Evidence, Embedded, Episode) -> Evidence with one more finding. A source's texts and paths meet in one place."""

    def __init__(self, params: InstructionGroundingParams) -> None:
        super().__init__()
        self._params = params

    def expand(
        self, inputs: tuple[beam.PCollection[Evidence], beam.PCollection[Embedded], beam.PCollection[Episode]]
    ) -> beam.PCollection[Evidence]:
        evidence, embedded, episodes = inputs
        keyed = beam.typehints.KV[str, Spoken]
        paths = episodes | "TakePaths" >> beam.Map(spoken).with_output_types(Spoken)
        vectors = embedded | "TakeTextVectors" >> beam.FlatMap(vector_of).with_output_types(Spoken)
        found = (
            (paths, vectors)
            | "MeetTextAndPath" >> beam.Flatten()
            | "BySource" >> beam.Map(_by_source).with_output_types(keyed)
            | "GroupBySource" >> beam.GroupByKey()
            | "Compare" >> beam.ParDo(_Judge(self._params)).with_output_types(Spoken)
        )
        rows = evidence | "TakeEvidence" >> beam.Map(_as_row).with_output_types(Spoken)
        return (
            (found, rows)
            | "MeetEvidence" >> beam.Flatten()
            | "ByEpisode" >> beam.Map(_by_episode).with_output_types(keyed)
            | "GroupByEpisode" >> beam.GroupByKey()
            | "AddFinding" >> beam.ParDo(_AddFinding()).with_output_types(Evidence)
        )
