"""Whether two episodes are the same, channel by channel: trajectory, frames, instruction.

A channel that either episode lacks abstains. The trajectory must agree, and the frames where both have some. The
instruction links nothing by itself; equal motion under another text is `relabelled`, which is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from transforms.deduplication.minhash import Hashes, jaccard
from transforms.evidence import DuplicateEdge, Fingerprint, FrameSample
from transforms.frame_hashes import HASH_BYTES, distances


@dataclass(frozen=True)
class AgreementParams:
    """From when on two episodes agree.

    Trajectories and texts by the Jaccard similarity of their shingles. Two frames by at most `frame_bits` of 256 that
    differ, two cameras by at least `frames_share` of the frames that both show at the same place of the path; with
    fewer than `min_frames` of these a camera abstains.
    """

    trajectory_jaccard: float = 0.5
    instruction_jaccard: float = 0.9
    frames_share: float = 0.6
    frame_bits: int = 48
    min_frames: int = 4

    def __post_init__(self) -> None:
        for name in ("trajectory_jaccard", "instruction_jaccard", "frames_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"dedup.{name} is {getattr(self, name)}; need 0 < {name} <= 1")
        if not 0 <= self.frame_bits < 128:
            raise ValueError(f"dedup.frame_bits is {self.frame_bits}; need 0 to 127, where any two frames agree")
        if self.min_frames < 1:
            raise ValueError(f"dedup.min_frames is {self.min_frames}; need at least 1")


def shingle_array(data: bytes) -> Hashes:
    """A fingerprint's shingles as an array."""
    return np.frombuffer(data, "<u8").astype(np.uint64)


def verify(a: Fingerprint, b: Fingerprint, params: AgreementParams) -> DuplicateEdge | None:
    """The edge of two fingerprints by exact similarities; None where motions or frames differ or a motion lacks."""
    motion = jaccard(shingle_array(a.trajectory_shingles), shingle_array(b.trajectory_shingles))
    if motion < params.trajectory_jaccard:
        return None
    frames = frames_similarity(a.frames, b.frames, params)
    return agreed((a.episode_id, b.episode_id), motion, frames, text_similarity(a, b), params)


def agreed(
    names: tuple[str, str], motion: float, frames: float | None, text: float | None, params: AgreementParams
) -> DuplicateEdge | None:
    """The edge of two episodes whose motions agree; None where their frames do not."""
    if frames is not None and frames < params.frames_share:
        return None
    low, high = sorted(names)
    relabelled = text is not None and text < params.instruction_jaccard
    return DuplicateEdge(low, high, "trajectory", motion, relabelled, frames, text)


def text_similarity(a: Fingerprint, b: Fingerprint) -> float | None:
    """Jaccard similarity of two instructions; None, an abstention, where either is empty."""
    if not (a.instruction and b.instruction):
        return None
    if a.instruction == b.instruction:
        return 1.0
    return jaccard(shingle_array(a.instruction_shingles), shingle_array(b.instruction_shingles))


def frames_similarity(a: tuple[FrameSample, ...], b: tuple[FrameSample, ...], params: AgreementParams) -> float | None:
    """The least similarity of a camera that both have, so that one other view tells two episodes apart.

    Cameras are paired by name. Where no name is common (an export renamed them), each camera of the episode that has
    fewer is compared with all of the other's, and the best counts. None where no pair has enough frames to say.
    """
    of_b = {sample.camera: sample for sample in b}
    if any(sample.camera in of_b for sample in a):
        said = [camera_similarity(one, of_b[one.camera], params) for one in a if one.camera in of_b]
        return min((share for share in said if share is not None), default=None)
    few, many = sorted((a, b), key=len)
    best: dict[str, float] = {}
    for one, other in product(few, many):
        share = camera_similarity(one, other, params)
        if share is not None:
            best[one.camera] = max(share, best.get(one.camera, 0.0))
    return min(best.values(), default=None)


def camera_similarity(a: FrameSample, b: FrameSample, params: AgreementParams) -> float | None:
    """Share of the frames that both sampled at the same place of the path which differ in at most `frame_bits`."""
    _, of_a, of_b = np.intersect1d(
        shingle_array(a.keys), shingle_array(b.keys), assume_unique=True, return_indices=True
    )
    if len(of_a) < params.min_frames:
        return None
    left, right = (np.frombuffer(sample.hashes, np.uint8).reshape(-1, HASH_BYTES) for sample in (a, b))
    return float((distances(left[of_a], right[of_b]) <= params.frame_bits).mean())
