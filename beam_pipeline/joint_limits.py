"""What each source's joints are held to, as a run's summary keeps it: a report is drawn where no URDF lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transforms.arrays import Floats
from transforms.conventions import Embodiment
from transforms.urdf import load_limits

if TYPE_CHECKING:
    from beam_pipeline.config import PipelineConfig

Bounds = tuple[float | None, ...]


@dataclass(frozen=True)
class JointLimits:
    """Joints of one source in the order of its columns, and their limits, None where the URDF states none.

    `lower`, `upper` in rad, `velocity` in rad/s; all empty where `note` says why there are no limits. `urdf` is the
    file's name without its folder, which is of this machine.
    """

    source: str
    embodiment: str
    names: tuple[str, ...] = ()
    urdf: str = ""
    lower: Bounds = ()
    upper: Bounds = ()
    velocity: Bounds = ()
    note: str = ""


def joint_limits(config: PipelineConfig) -> tuple[JointLimits, ...]:
    """Limits of every source by name; a URDF that is gone since its source was measured is named in a note."""
    sources = sorted(config.sources, key=lambda source: source.name)
    return tuple(_of(s.name, s.embodiment, config.embodiments.get(s.embodiment, Embodiment())) for s in sources)


def _of(source: str, name: str, embodiment: Embodiment) -> JointLimits:
    if embodiment.joints is None:
        note = f"no `joints` are declared for embodiment {name!r}" if name else "no `embodiment` is declared"
        return JointLimits(source, name, note=note)
    names = embodiment.joints.names
    if embodiment.joints.unit == "unknown":
        note = f"`joints.unit` of embodiment {name!r} is not declared, so no position is known in rad"
        return JointLimits(source, name, note=note)
    if embodiment.urdf is None:
        return JointLimits(source, name, names, note=f"no `urdf` is configured for embodiment {name!r}")
    urdf = Path(embodiment.urdf).name
    try:
        found = load_limits(embodiment.urdf).select(names)
    except (OSError, ValueError) as error:
        return JointLimits(source, name, names, urdf, note=f"the limits of {urdf} could not be read: {_said(error)}")
    return JointLimits(source, name, names, urdf, _bounds(found.lower), _bounds(found.upper), _bounds(found.velocity))


def _bounds(values: Floats) -> Bounds:
    numbers: Sequence[float] = values.tolist()
    return tuple(number if np.isfinite(number) else None for number in numbers)


def _said(error: Exception) -> str:
    """Without a path of this machine: the same run elsewhere gives the same page."""
    return "the file is gone" if isinstance(error, FileNotFoundError) else type(error).__name__
