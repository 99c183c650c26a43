"""What a curation of the sample must find: one row per planned episode, the flaws, and the simulator's own arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from examples.sample import write_isaac, write_rlds
from examples.sample.flaws import ISAAC, RLDS, FlawSizes, Plan
from examples.sample.recorded import Recorded
from examples.sample.robot import RATE_HZ


def episode_ids(recorded: Sequence[Recorded]) -> dict[tuple[str, int], str]:
    """(source, number) -> the id that the readers give: source/split/index, for HDF5 source/file/demonstration."""
    ids = {(r.slot.source, r.slot.number): f"{r.slot.source}/{write_rlds.SPLIT}/{r.slot.number:06d}" for r in recorded}
    files = write_isaac.split([r for r in recorded if r.slot.source == ISAAC])
    for name, demos in zip(write_isaac.FILES, files, strict=True):
        for number, one in enumerate(demos):
            ids[ISAAC, one.slot.number] = f"{ISAAC}/{name}/{number:06d}"
    return ids


def _flaws(one: Recorded, episode_id: str) -> list[dict[str, object]]:
    """The flaws of one episode, each with the prefix of the check that must speak of it (None: no rejection)."""
    slot, found = one.slot, []
    if slot.speeding and one.speeding is not None:
        found.append({"kind": "speed_limit", "rule": "physics.", **asdict(one.speeding)})
    if slot.frozen is not None:
        found.append({"kind": "frozen_camera", "rule": "frames.", **asdict(slot.frozen)})
    if slot.no_instruction:
        found.append({"kind": "missing_instruction", "rule": None, "instruction_status": "missing"})
    if slot.swapped is not None:
        stamps = np.arange(len(one.episode.qpos))
        stamps[list(slot.swapped)] = stamps[list(slot.swapped)[::-1]]
        backward = np.flatnonzero(np.diff(stamps) < 0) + 1
        found.append(
            {"kind": "clock", "rule": "timestamps.", "swapped": list(slot.swapped), "backward": backward.tolist()}
        )
    if slot.cut:
        found.append({"kind": "truncated_file", "rule": "truncated"})
    return [{"episode_id": episode_id, **flaw} for flaw in found]


def _outcomes(flaws: Sequence[dict[str, object]], shared: bool) -> list[str]:
    if any(flaw["kind"] == "truncated_file" for flaw in flaws):
        return ["quarantined"]
    if any(flaw["rule"] is not None for flaw in flaws):
        return ["rejected"]
    return ["kept", "duplicate"] if shared else ["kept"]


def write(folder: Path, recorded: Sequence[Recorded], plan: Plan, seed: int, sizes: FlawSizes) -> None:
    """Write `folder`/truth.json and one .npz of arrays per distinct episode as recorded.

    `expected` lists the outcomes an episode may have: of a duplicate group exactly one is kept, whichever it is.
    """
    ids = episode_ids(recorded)
    groups = [sorted(ids[place] for place in group) for group in plan.duplicates]
    group_of = {member: number for number, members in enumerate(groups) for member in members}
    (folder / "truth").mkdir()
    rows, flaws = [], []
    for one in recorded:
        episode_id = ids[one.slot.source, one.slot.number]
        found = _flaws(one, episode_id)
        flaws += found
        arrays = f"truth/{one.episode.index:06d}.npz"
        if not (folder / arrays).exists():
            _write_arrays(folder / arrays, one)
        rows.append(
            {
                "episode_id": episode_id,
                "source": one.slot.source,
                "task": one.episode.kind,
                "colour": one.episode.colour,
                "instruction": one.instruction,
                "n_steps": len(one.episode.qpos),
                "expected": _outcomes(found, episode_id in group_of),
                "rule": next((flaw["rule"] for flaw in found if flaw["rule"] is not None), None),
                "duplicate_group": group_of.get(episode_id),
                "simulated": one.episode.index,
                "arrays": arrays,
            }
        )
    truth = {
        "seed": seed,
        "rate_hz": RATE_HZ,
        "sizes": asdict(sizes),
        "episodes": sorted(rows, key=lambda row: str(row["episode_id"])),
        "duplicate_groups": groups,
        "flaws": sorted(flaws, key=lambda flaw: (str(flaw["kind"]), str(flaw["episode_id"]))),
        "lost_from": RLDS,
    }
    (folder / "truth.json").write_text(json.dumps(truth, indent=2) + "\n")


def _write_arrays(path: Path, one: Recorded) -> None:
    """T rows per episode; transition t is states[t], actions[t], rewards[t], next_states[t], t < T - 1."""
    episode = one.episode
    np.savez(
        path,
        times=episode.times_s,
        states=episode.position,
        actions=episode.action,
        rewards=episode.reward[:-1],
        next_states=episode.position[1:],
        velocities=episode.velocity,
        tool_pose_xyzw=one.tool_xyzw,
        cube_pose_xyzw=one.cube_xyzw,
    )
