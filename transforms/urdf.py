"""Joint limits of a URDF file: names, position, velocity and effort, as arrays."""

from __future__ import annotations

import difflib
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.parsers import expat

import numpy as np

from transforms.arrays import Floats

MAX_BYTES = 64 << 20
"""URDF files are kilobytes; anything beyond this is not one."""
_MOVING = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True, eq=False)
class UrdfLimits:
    """Limits of J joints, each array (J,) float64, NaN where the file states none.

    `lower`, `upper` in rad (m for prismatic joints), `velocity` in rad/s (m/s), `effort` in N m (N).
    """

    names: tuple[str, ...]
    lower: Floats
    upper: Floats
    velocity: Floats
    effort: Floats

    def select(self, names: tuple[str, ...]) -> UrdfLimits:
        """The limits of `names`, in that order; ValueError names the nearest joint for one the file lacks."""
        place = {name: i for i, name in enumerate(self.names)}
        for name in names:
            if name not in place:
                near = difflib.get_close_matches(name, self.names, 1, 0.0)
                hint = f"; the nearest is {near[0]!r}" if near else ""
                raise ValueError(f"joint {name!r} is not among the URDF's {len(self.names)} moving joints{hint}")
        rows = [place[name] for name in names]
        return UrdfLimits(names, self.lower[rows], self.upper[rows], self.velocity[rows], self.effort[rows])


def load_limits(path: str) -> UrdfLimits:
    """Limits of a URDF's moving joints in file order, cached until the file changes.

    A velocity or effort of 0 is what exporters write for "not known" (the WidowX URDF has effort 0) and reads NaN, as
    do the position limits of continuous joints. Raises FileNotFoundError, or ValueError for a file that is no plain
    URDF; a DTD is refused, so no entity is ever expanded.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"no URDF file at {path!r}; correct `urdf` of the embodiment, or leave it out")
    stat = file.stat()
    if stat.st_size > MAX_BYTES:
        raise ValueError(f"URDF {path!r} has {stat.st_size} bytes, more than the {MAX_BYTES} a URDF may have")
    return _load(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _load(path: str, mtime_ns: int, size: int) -> UrdfLimits:
    data = Path(path).read_bytes()
    _refuse_dtd(data, path)
    root = ElementTree.fromstring(data)
    if root.tag != "robot":
        raise ValueError(f"{path!r} is not a URDF: its root element is <{root.tag}>, not <robot>")
    joints = [joint for joint in root.findall("joint") if joint.get("type") in _MOVING]
    names = tuple(joint.get("name", "") for joint in joints)
    if len(set(names)) != len(names) or "" in names:
        raise ValueError(f"URDF {path!r} has joints without a name of their own: {sorted(names)}")
    rows = np.array([_limits(joint, path) for joint in joints], np.float64).reshape(-1, 4)
    rows.setflags(write=False)
    lower, upper, velocity, effort = rows.T
    return UrdfLimits(names, lower, upper, velocity, effort)


def _refuse_dtd(data: bytes, path: str) -> None:
    def refuse(*_: object) -> None:
        raise ValueError(f"URDF {path!r} declares a DTD; remove the <!DOCTYPE>, a URDF needs none")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"{path!r} is not well-formed XML ({error}); give a URDF file") from error


def _limits(joint: ElementTree.Element, path: str) -> tuple[float, float, float, float]:
    limit = joint.find("limit")
    name = joint.get("name")

    def number(key: str) -> float:
        text = None if limit is None else limit.get(key)
        if text is None:
            return np.nan
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"URDF {path!r}: {key} of joint {name!r} is {text!r}, not a number") from None

    lower, upper, velocity, effort = (number(key) for key in ("lower", "upper", "velocity", "effort"))
    if joint.get("type") == "continuous":
        lower = upper = np.nan
    if lower > upper:
        raise ValueError(f"URDF {path!r}: joint {name!r} has lower {lower} above upper {upper}")
    return lower, upper, velocity or np.nan, effort or np.nan
