"""Which step columns curation added in canonical units: exports leave them out, for policies would take them twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transforms.schema import (
    ACTION,
    ACTION_GRIPPER,
    END_EFFECTOR_POSE,
    GRIPPER,
    JOINT_POSITION,
    JOINT_VELOCITY,
    UNKNOWN,
)

_DECLARED_BY = {
    JOINT_POSITION: "joint_names",
    JOINT_VELOCITY: "joint_names",
    END_EFFECTOR_POSE: "rotation_column",
    GRIPPER: "gripper_column",
}
"""The convention without which curation adds the column."""


def derived_columns(names: Iterable[str], conventions: Mapping[str, str]) -> frozenset[str]:
    """Which of a source's columns curation added, by what its embodiment declares.

    A source may itself have recorded a column of such a name; that one is its own, also where it was made canonical.
    """
    said = {name: conventions.get(key, UNKNOWN) for name, key in _DECLARED_BY.items()}
    added = {name for name, value in said.items() if value != UNKNOWN and not value.startswith(f"{name}[")}
    return frozenset(added | ({ACTION_GRIPPER} if ACTION in names else set()))
