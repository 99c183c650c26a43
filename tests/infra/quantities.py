"""Kubernetes' quantities, such as 500m, 16Gi and 2."""

from __future__ import annotations

import re

_POWERS = {
    "m": 1e-3,
    "": 1,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}
_FORM = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]*)")


def quantity(text: str | int) -> float:
    """The number that a quantity stands for; raises ValueError for what is none."""
    match = _FORM.fullmatch(str(text))
    if not match or match[2] not in _POWERS:
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * _POWERS[match[2]]
