"""What robomimic's layout states beside Isaac Lab's: `next_obs`, `dones`, masks, and the rate inside `env_args`.

Its converter (robomimic/scripts/dataset_states_to_obs.py) writes as `next_obs` of a step the very arrays that are `obs`
of the next one, so the two must be equal, and `dones` by a mode that the file does not name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
import pyarrow as pa

from transforms.episode import Finding
from transforms.sources.hdf5_file import Member
from transforms.sources.isaac_cameras import image_kind

_NEXT, _NOW = "next_obs/", "obs/"
_IMAGES_COMPARED = 8
_RATE_TOLERANCE = 0.01


def rate(attributes: Mapping[str, str], declared_hz: float | None) -> tuple[float | None, tuple[Finding, ...]]:
    """The declared rate, else `env_args` `env_kwargs.control_freq` (robosuite, Hz); a finding where both disagree."""
    args = msgspec.json.decode(attributes.get("env_args", "null"))
    kwargs = args.get("env_kwargs") if isinstance(args, dict) else None
    stated = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not 0 < stated <= 10_000:
        return declared_hz, ()
    if declared_hz is None or abs(declared_hz - stated) <= _RATE_TOLERANCE * stated:
        return declared_hz or float(stated), ()
    detail = f"`rate_hz` is {declared_hz:g}, env_args says control_freq {stated:g}; the declared rate is used"
    return declared_hz, (Finding("load", "metadata.fps", float(stated), "Hz", detail=detail),)


def masks(split: str, names: tuple[str, ...]) -> dict[str, str]:
    """The attributes `split` and `masks` of a demo, as JSON; none where no mask names it."""
    if not names:
        return {}
    return {"split": msgspec.json.encode(split).decode(), "masks": msgspec.json.encode(names).decode()}


def next_findings(members: Mapping[str, Member]) -> Iterator[Finding]:
    """`metadata.next_obs`: steps whose `next_obs` is not `obs` of the step after, the most of any column.

    Of a camera up to 8 frames, evenly spaced, are compared. A `next_obs` without its `obs` has nothing to agree with.
    """
    worst: tuple[int, str, int] | None = None
    for name, after in members.items():
        now = members.get(_NOW + name.removeprefix(_NEXT)) if name.startswith(_NEXT) else None
        if now is None or now.shape != after.shape or now.shape[0] < 2:
            continue
        rows = _differing(now, after, name)
        if rows and (worst is None or len(rows) > worst[0]):
            worst = (len(rows), name, rows[0])
    if worst is not None:
        count, name, first = worst
        detail = f"{name} differs from obs of the following step on {count} steps, the first of them step {first}"
        yield Finding("load", "metadata.next_obs", float(count), "steps", frames=(first, first), detail=detail)


def _differing(now: Member, after: Member, name: str) -> list[int]:
    """Steps t < T - 1 at which row t of `after` is not row t + 1 of `now`; NaN equals NaN."""
    last = now.shape[0] - 1
    if image_kind(name, now) is not None:
        chosen = sorted({int(step) for step in np.linspace(0, last - 1, _IMAGES_COMPARED)})
        return [step for step in chosen if not np.array_equal(after.dataset[step], now.dataset[step + 1])]
    early, late = now.read()[1:].reshape(last, -1), after.read()[:-1].reshape(last, -1)
    same = early == late
    if early.dtype.kind == "f" and late.dtype.kind == "f":
        same |= np.isnan(early) & np.isnan(late)
    return [int(step) for step in np.flatnonzero(~same.all(axis=1))]


def done_findings(columns: Mapping[str, pa.Array]) -> Iterator[Finding]:
    """`metadata.dones`: steps but the last on which `dones` is set, though the demo goes on."""
    dones = columns.get("dones")
    if dones is None or pa.types.is_nested(dones.type) or pa.types.is_string(dones.type):
        return
    early = np.flatnonzero(np.asarray(dones.to_numpy(zero_copy_only=False))[:-1] > 0)
    if len(early):
        first, last = int(early[0]), int(early[-1])
        detail = f"dones is set on {len(early)} steps before the last, the first of them step {first}; no step is cut"
        yield Finding("load", "metadata.dones", float(len(early)), "steps", frames=(first, last), detail=detail)
