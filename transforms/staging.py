"""StageEpisode: puts an episode where the sink will find it, and passes on only what decides about it."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import xxhash

from transforms.coders import ArrowCoder, decode, encode
from transforms.deduplication.fingerprint import FingerprintParams, fingerprint
from transforms.episode import IMAGES, Episode, ImageRef, content_id
from transforms.evidence import Evidence
from transforms.output_schema import convert, output_type
from transforms.part_writer import put_in_place, temporary_file
from transforms.stage import EpisodeStage
from transforms.transition_rows import columns_of, plain_rows

STAGED = "episodes"
"""Folder of the staging area that holds whole episodes until their outcome is known."""
_CODEC = "zstd"
_NO_STEPS = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
_UNKNOWN_IMAGE_BYTES = 32_768
"""Taken for an encoded image where the reader does not know the size: it only steers how much goes in one file."""


def staged_path(episode_id: str) -> str:
    """Where an episode waits, relative to the staging folder: the same name in every attempt."""
    return f"{STAGED}/{xxhash.xxh3_128_hexdigest(episode_id.encode())}.episode"


def save_episode(staging: Path, episode: Episode) -> str:
    """Write a whole episode, compressed; returns its place relative to the staging folder."""
    data = encode(episode)
    temporary = temporary_file(staging)
    with temporary.open("wb") as file:
        file.write(len(data).to_bytes(8, "little"))
        file.write(pa.compress(data, codec=_CODEC))
    place = staged_path(episode.episode_id)
    put_in_place(temporary, staging / place)
    return place


def load_episode(staging: Path, place: str) -> Episode:
    """The episode that `save_episode` wrote; raises FileNotFoundError where the staging area lost it."""
    path = staging / place
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path}: a staged episode is gone; the staging folder must be one that every worker shares, run again"
        ) from error
    size = int.from_bytes(data[:8], "little")
    return decode(pa.decompress(memoryview(data)[8:], size, codec=_CODEC), Episode)


def describe(episode: Episode, place: str, params: FingerprintParams) -> Evidence:
    """All that decides about an episode, without its steps; raises pa.ArrowInvalid where a value fits no column."""
    rows = plain_rows(episode)
    for column in rows.columns:
        convert(column, output_type(column.type))
    return Evidence(
        episode_id=episode.episode_id,
        source=episode.source,
        uri=episode.uri,
        content_id=episode.content_id,
        n_steps=episode.steps.num_rows,
        n_transitions=rows.num_rows,
        n_bytes=rows.nbytes + sum(_image_bytes(episode, rows, camera) for camera in episode.videos),
        staged=place,
        fingerprint=fingerprint(episode, params),
        instruction=episode.instruction,
        instruction_status=episode.instruction_status,
        parent_id=episode.parent_id,
        start_ns=episode.start_ns,
        end_ns=episode.end_ns,
        columns=columns_of(episode, rows),
        cameras=tuple(sorted(episode.videos)),
        findings=episode.findings,
        head=replace(episode, steps=_NO_STEPS, findings=(), frame_hashes={}),
    )


def _image_bytes(episode: Episode, rows: pa.RecordBatch, camera: str) -> int:
    ref = episode.videos[camera]
    if not isinstance(ref, ImageRef):
        return 0
    each = ref.n_bytes // max(ref.count, 1) if ref.n_bytes else _UNKNOWN_IMAGE_BYTES
    used = f"{IMAGES}{camera}.index" in rows.schema.names
    return each * rows.num_rows if used else 0


@dataclass(frozen=True)
class StagedEpisode:
    """That an episode waits in the staging area, and with which content."""

    episode_id: str
    content_id: str

    @classmethod
    def of(cls, evidence: Evidence) -> StagedEpisode:
        """Of the evidence that staging it gave."""
        return cls(evidence.episode_id, evidence.content_id)


class StagedEpisodeCoder(ArrowCoder):
    """Coder of what is staged."""

    kind = StagedEpisode


beam.coders.registry.register_coder(StagedEpisode, StagedEpisodeCoder)


class StageEpisode(EpisodeStage):
    """Episode -> Evidence: computes the content id, stages the whole episode, emits a small row.

    Without `keep_steps` an empty file stands for the episode: it was measured, and its steps are read again if needed.
    """

    name = "stage"
    output = Evidence

    def __init__(self, staging: str, params: FingerprintParams, keep_steps: bool = True) -> None:
        super().__init__()
        self._staging = staging
        self._params = params
        self._keep_steps = keep_steps

    def setup(self) -> None:
        """Raises FileNotFoundError, before any work, where this worker does not share the staging folder."""
        if not Path(self._staging).is_dir():
            raise FileNotFoundError(
                f"{self._staging}: there is no such folder on {platform.node()}, where this worker runs; "
                "use an --output on a file system that all workers share"
            )

    def process_element(self, element: Episode) -> Iterable[Evidence]:
        identified = replace(element, content_id=content_id(element))
        place = staged_path(identified.episode_id)
        evidence = describe(identified, place, self._params)
        if self._keep_steps:
            save_episode(Path(self._staging), replace(identified, frame_hashes={}))
        else:
            mark = Path(self._staging) / place
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        return [evidence]
