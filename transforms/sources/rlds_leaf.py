"""One feature of an RLDS record as features.json declares it, or as its values show it, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Literal

import numpy as np

from transforms.sources.tf_example import Values

STEP_PREFIX = "steps/"
FLAGS = ("is_first", "is_last", "is_terminal")
_SCALARS = (*FLAGS, "reward", "discount")
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"

Kind = Literal["tensor", "text", "image", "ragged"]


@dataclass(frozen=True)
class Leaf:
    """One feature: its key in the Example, shape per step (None: unknown), dtype as NumPy names it.

    What follows from these is worked out once per leaf: records by the thousand share the declared ones.
    """

    key: str
    kind: Kind
    shape: tuple[int | None, ...] = ()
    dtype: str = ""
    encoding: str = "none"

    @cached_property
    def column(self) -> str:
        """The step column that the feature becomes."""
        return column_name(self.key)

    @cached_property
    def values(self) -> int | None:
        """Values per step; None where a size is not declared."""
        if self.kind in ("image", "text"):
            return 1
        sizes = [size for size in self.shape if size is not None]
        return prod(sizes) if len(sizes) == len(self.shape) else None

    @cached_property
    def stored_values(self) -> int | None:
        """Values per step in the Example, where a packed tensor is one; None where a size is not declared."""
        return self.values if self.encoding == "none" else 1

    @cached_property
    def stored_as_bytes(self) -> bool:
        """Whether an Example holds the feature as a list of bytes."""
        return self.kind in ("image", "text") or self.encoding != "none" or self.dtype == "string"

    @cached_property
    def is_scalar(self) -> bool:
        """Whether one value a step is a column of numbers, not of vectors of one."""
        return self.shape in ((), (None,))

    @cached_property
    def number(self) -> np.dtype[np.generic] | None:
        """The numeric dtype; None for bfloat16 and others that NumPy does not have."""
        try:
            dtype = np.dtype(self.dtype)
        except (TypeError, ValueError):
            return None
        return dtype if self.dtype and dtype.kind in "biuf" else None

    @cached_property
    def is_raw_image(self) -> bool:
        """Whether the feature is a tensor of pixels: (H, W, C) uint8, (H, W) or (H, W, 1) uint16, 8x8 or more."""
        if len(self.shape) not in (2, 3) or None in self.shape or min(size or 0 for size in self.shape[:2]) < 8:
            return False
        channels = self.shape[2] if len(self.shape) == 3 else 1
        return (self.dtype == "uint8" and len(self.shape) == 3 and channels in (1, 3, 4)) or (
            self.dtype == "uint16" and channels == 1
        )


@lru_cache(maxsize=4096)
def column_name(key: str) -> str:
    """`steps/observation/state` as `observation.state`."""
    return key.removeprefix(STEP_PREFIX).replace("/", ".")


@lru_cache(maxsize=4096)
def _inferred_number(key: str, dtype: str) -> Leaf:
    if column_name(key) in FLAGS:
        return Leaf(key, "tensor", (), "bool")
    return Leaf(key, "tensor", () if column_name(key) in _SCALARS else (None,), dtype)


def infer_leaf(key: str, values: Values) -> Leaf:
    """The leaf of an undeclared key; a vector's width stays open until the number of steps is known."""
    if isinstance(values, list):
        head = bytes(next((item[:25] for item in values if len(item)), b""))
        deep = head.startswith(_PNG) and head[24:] == b"\x10"
        return Leaf(key, "image" if head.startswith((_JPEG, _PNG)) else "text", (), "uint16" if deep else "uint8")
    return _inferred_number(key, values.dtype.name)
