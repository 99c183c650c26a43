"""What deduplication sees of an episode: shingles of its path through joint or pose space, and of its instruction.

The path is cut where one dimension crosses a line of a fixed grid (linear between steps). A crossing says which
dimension, which way, and where the dimension and its next neighbours and the gripper then are; no time and no step
index enter. So rate, start time, speed and cropped ends change few shingles, while another demonstration of the
same task, which passes other poses, shares next to none. A hysteresis of a quarter cell keeps noise from
crossing a line back and forth, and lines avoid round numbers, where resting joints and grippers sit.

Frames are compared where the paths are at the same place: of the crossings that an episode makes once, those of the
smallest shingles (a bottom-k sample, the same for every copy of the path) each keep the frame that is shown there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from transforms.arrays import Floats, column_matrix
from transforms.deduplication.minhash import Hashes, mix64
from transforms.episode import Episode, nfc
from transforms.evidence import Fingerprint, FrameSample
from transforms.frame_hashes import HASH_BYTES, has_hash
from transforms.schema import END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, STATE

Levels = NDArray[np.int64]

GRID_OFFSET = 0.381966
"""Place of the grid's lines as a fraction of a cell: the golden section, far from every simple fraction."""
FARTHEST_LEVEL = 2.0**40
"""Beyond this many cells from zero a value is no pose: the row counts as unreadable, like NaN."""
LONGEST_RUN = 64
"""A single step across more cells than this is a jump: one crossing, so that a wild value costs no memory."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class FingerprintParams:
    """Cell sizes of the grid. `context` neighbours join a crossing; `hysteresis` is a fraction of a cell.

    `scale` and `relative_step` serve columns of undeclared unit: x becomes asinh(x / scale), and cells are
    `relative_step` wide. The map is fixed, the same for every episode: cells of `scale * relative_step` near zero, of
    `relative_step * |x|` far from it, which suits radians, metres and degrees alike. Episodes with fewer than
    `min_shingles` (hardly moving) abstain from the trajectory channel. `frames` of each camera are kept, at most.
    """

    joint_step_rad: float = 0.05
    position_step_m: float = 0.01
    rotation_step: float = 0.05
    relative_step: float = 0.1
    scale: float = 0.2
    hysteresis: float = 0.25
    context: int = 2
    min_shingles: int = 12
    frames: int = 16

    def __post_init__(self) -> None:
        for name in ("joint_step_rad", "position_step_m", "rotation_step", "relative_step", "scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"fingerprint.{name} is {getattr(self, name)}; need a positive, finite number")
        if not 0 <= self.hysteresis < 0.5:
            raise ValueError(f"fingerprint.hysteresis is {self.hysteresis}; need 0 <= hysteresis < 0.5 of a cell")
        for name, least in (("context", 0), ("min_shingles", 1), ("frames", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"fingerprint.{name} is {getattr(self, name)}; need at least {least}")


@dataclass(frozen=True)
class PathShingles:
    """Shingles of a path: `hashes` (S,) sorted and unique, `step` (S,) the step nearest to each one's crossing.

    `once` (S,) says that the episode makes such a crossing a single time.
    """

    hashes: Hashes
    step: Levels
    once: NDArray[np.bool_]


NO_PATH = PathShingles(np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.bool_))


def fingerprint(episode: Episode, params: FingerprintParams) -> Fingerprint:
    """The episode's fingerprint; a channel that it lacks is left empty and abstains."""
    text = nfc(episode.instruction or "")
    path = step_path(episode.steps, params)
    return Fingerprint(
        episode_id=episode.episode_id,
        content_id=episode.content_id,
        instruction=text,
        instruction_shingles=text_shingles(text).astype("<u8").tobytes(),
        trajectory_shingles=path.hashes.astype("<u8").tobytes(),
        frames=tuple(
            sample
            for camera, hashes in sorted(episode.frame_hashes.items())
            if (sample := frame_sample(camera, hashes, path, params.frames)) is not None
        ),
    )


def frame_sample(camera: str, hashes: bytes, path: PathShingles, count: int) -> FrameSample | None:
    """At most `count` of a camera's frames, keyed by the shingles where they are shown; None where none has a hash.

    `hashes` are 32 bytes a step, zeros where there is no frame to compare.
    """
    of_step = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)
    if not len(path.hashes):
        return None
    chosen = np.flatnonzero(path.once & has_hash(of_step)[path.step])[:count]
    if not len(chosen):
        return None
    return FrameSample(camera, path.hashes[chosen].astype("<u8").tobytes(), of_step[path.step[chosen]].tobytes())


def text_shingles(text: str) -> Hashes:
    """Sorted unique xxh3-64 of the words and word pairs of a text, case and punctuation gone."""
    words = _WORD.findall(nfc(text).casefold())
    grams = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
    return np.array(sorted(xxhash.xxh3_64_intdigest(gram.encode()) for gram in grams), np.uint64)


def step_shingles(steps: pa.RecordBatch, params: FingerprintParams) -> Hashes:
    """Sorted unique shingles of the path in the best declared space; empty where too little moves."""
    return step_path(steps, params).hashes


def step_path(steps: pa.RecordBatch, params: FingerprintParams) -> PathShingles:
    """The path's shingles in the best declared space, none where too little moves."""
    for kind, cells in enumerate(_spaces(steps, params)):
        if cells is None:
            continue
        gripper = column_matrix(steps, GRIPPER) if kind < 2 else None
        # Whole cells apart at 0.5, so that only half open to half closed crosses a line.
        grip = np.full((len(cells), 1), 0.5) if gripper is None else gripper[:, :1] - 0.5
        found = path_shingles(np.hstack([cells, grip]), params, seed=2 * kind + (gripper is None))
        return found if len(found.hashes) >= params.min_shingles else NO_PATH
    return NO_PATH


def _spaces(steps: pa.RecordBatch, params: FingerprintParams) -> Iterator[Floats | None]:
    """The path in cells by declared joints, else by declared pose, else by the state as it is."""
    joints = column_matrix(steps, JOINT_POSITION)
    yield None if joints is None else joints / params.joint_step_rad - GRID_OFFSET
    pose = column_matrix(steps, END_EFFECTOR_POSE)
    yield None if pose is None else pose_cells(pose, params) - GRID_OFFSET
    state = column_matrix(steps, STATE)
    yield None if state is None else np.arcsinh(state / params.scale) / params.relative_step - GRID_OFFSET


def pose_cells(pose: Floats, params: FingerprintParams) -> Floats:
    """(T, 7) xyz m + xyzw -> (T, 9) cells; rotation as two matrix columns, where q and -q are one."""
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y, z, w = (pose[:, 3:7] / np.linalg.norm(pose[:, 3:7], axis=1, keepdims=True)).T
    columns = np.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y + z * w),
            2 * (x * z - y * w),
            2 * (x * y - z * w),
            1 - 2 * (x * x + z * z),
            2 * (y * z + x * w),
        ],
        axis=1,
    )
    return np.hstack([pose[:, :3] / params.position_step_m, columns / params.rotation_step])


def path_shingles(cells: Floats, params: FingerprintParams, seed: int = 0) -> PathShingles:
    """(T, D) path in cells -> shingles of its crossings, the n-th equal one counted as its own.

    The last dimension joins every shingle, as `context` cyclic neighbours of the crossing one do.
    """
    reachable = np.flatnonzero(np.isfinite(cells).all(axis=1) & (np.abs(cells) < FARTHEST_LEVEL).all(axis=1))
    cells = cells[reachable]
    if len(cells) < 2:
        return NO_PATH
    dims, rising, entered, place = crossings(cells, params.hysteresis)
    if not len(dims):
        return NO_PATH
    last = cells.shape[1] - 1
    own = np.where(dims == last, 0, dims)
    wanted = (own[:, None] + np.arange(min(params.context + 1, last))) % max(last, 1)
    wanted = np.hstack([wanted, np.full((len(dims), 1), last)])
    levels = levels_at(dims, entered, np.floor(cells[0]).astype(np.int64), wanted)
    hashes = mix64((dims * 2 + rising).astype(np.uint64) + np.uint64((seed * 1_000_003 + last) * 65_537))
    for column in levels.T:
        hashes = mix64(hashes ^ (column.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)))
    order = np.argsort(hashes, kind="stable")
    numbered, repeated = number_repeats(hashes[order])
    unique, first = np.unique(numbered, return_index=True)
    return PathShingles(unique, reachable[np.rint(place[order][first]).astype(np.int64)], ~repeated[first])


def crossings(cells: Floats, hysteresis: float) -> tuple[Levels, NDArray[np.bool_], Levels, Floats]:
    """Where a piecewise linear path (T, D) enters another cell, in order of path time.

    A dimension enters cell m upward at m + hysteresis and leaves it downward at m - hysteresis. Returns the (E,)
    dimension, whether it rises, the cell entered, and the place as a fractional row of the path.
    """
    before, after = cells[:-1], cells[1:]
    up = after > before
    first = np.where(up, np.floor(before - hysteresis) + 1, np.ceil(after + hysteresis)).astype(np.int64)
    last = np.where(up, np.floor(after - hysteresis), np.ceil(before + hysteresis) - 1).astype(np.int64)
    count = np.where(before == after, 0, np.maximum(last - first + 1, 0))
    jumps = count > LONGEST_RUN
    first = np.where(jumps & up, last, first)
    count = np.where(jumps, 1, count).reshape(-1)
    where = np.repeat(np.arange(count.size), count)
    line = first.reshape(-1)[where] + np.arange(len(where)) - np.repeat(np.cumsum(count) - count, count)
    rising = up.reshape(-1)[where]
    start, end = before.reshape(-1)[where], after.reshape(-1)[where]
    time = where // cells.shape[1] + (np.where(rising, line + hysteresis, line - hysteresis) - start) / (end - start)
    dims = where % cells.shape[1]
    entered = np.where(rising, line, line - 1)

    order = np.lexsort((time, dims))
    time, dims, entered, rising = time[order], dims[order], entered[order], rising[order]
    origin = np.floor(cells[0]).astype(np.int64)
    left = np.concatenate([entered[:1], entered[:-1]])
    opening = np.concatenate([np.ones(min(len(dims), 1), bool), dims[1:] != dims[:-1]])
    left[opening] = origin[dims[opening]]
    real = np.flatnonzero(entered != left)
    order = real[np.lexsort((dims[real], time[real]))]
    return dims[order], rising[order], entered[order], time[order]


def levels_at(dims: Levels, entered: Levels, origin: Levels, wanted: Levels) -> Levels:
    """(E, K) cells of the `wanted` (E, K) dimensions just after each of E crossings, `origin` (D,) at the start."""
    count = len(dims)
    keys = dims * count + np.arange(count)
    order = np.argsort(keys)
    asked = wanted * count + np.arange(count)[:, None]
    found = np.searchsorted(keys[order], asked, side="right") - 1
    event = order[np.maximum(found, 0)]
    return np.where((found >= 0) & (dims[event] == wanted), entered[event], origin[wanted])


def number_repeats(ordered: Hashes) -> tuple[Hashes, NDArray[np.bool_]]:
    """Equal ones of sorted hashes told apart by how many came before, so that a set of them compares as a multiset.

    Also whether each has an equal.
    """
    place = np.arange(len(ordered))
    same = ordered[1:] == ordered[:-1]
    fresh = np.concatenate([np.ones(min(len(ordered), 1), bool), ~same])
    rank = place - np.maximum.accumulate(np.where(fresh, place, 0))
    repeated = ~fresh
    repeated[:-1] |= same
    return mix64(ordered + rank.astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)), repeated
