"""Vectors as rows of int8, on which cosines are compared without any rounding.

A row is scaled so that its largest entry is 127. Products of two such rows of D entries are integers of at most
D * 127^2, so that a matrix product in float32 is exact in any order of sums, on any device and tiling, while that is
below 2^24 (D <= 1040); wider rows are multiplied in pieces of that width, whose sums are added in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int8]
Ints = NDArray[np.int64]

EXACT_WIDTH = 1040
"""The largest D with D * 127^2 < 2^24."""
WIDEST = 65_536
"""Up to this D a product is below 2^30 and its square below 2^60, as `Threshold` needs."""
MOST_PARTS = 10_000
"""A threshold has at most four decimals: its denominator's square is below 2^27."""
_LIMB = np.uint64(28)


@dataclass(frozen=True)
class Threshold:
    """A cosine as a fraction of integers, `numerator / denominator`."""

    numerator: int
    denominator: int

    @staticmethod
    def of(cosine: float) -> Threshold:
        """The fraction that a decimal such as 0.95 stands for; raises ValueError outside (0, 1] or past 4 decimals."""
        if not 0 < cosine <= 1:
            raise ValueError(f"the cosine threshold is {cosine}; need 0 < cosine <= 1")
        exact = Fraction(str(cosine))
        if exact.denominator > MOST_PARTS:
            raise ValueError(f"the cosine threshold {cosine} has more than four decimals; round it, to {cosine:.4f}")
        return Threshold(exact.numerator, exact.denominator)

    @property
    def value(self) -> float:
        """The nearest float64."""
        return self.numerator / self.denominator

    def reached(self, dots: Ints, squares: Ints) -> NDArray[np.bool_]:
        """Whether `dots` (C,) of pairs reach it; `squares` (C,) are the products of the two rows' squared norms.

        dot > 0 and dot^2 * denominator^2 >= numerator^2 * squares. Both dot^2 and squares are below 2^60 and the
        factors below 2^27, so the sides are below 2^87: they are compared in two limbs, each below 2^60.
        """
        left = _times(dots.astype(np.uint64) ** np.uint64(2), self.denominator**2)
        right = _times(squares.astype(np.uint64), self.numerator**2)
        above = (left[0] > right[0]) | ((left[0] == right[0]) & (left[1] >= right[1]))
        return np.asarray((dots > 0) & above)


def _times(values: NDArray[np.uint64], factor: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Values below 2^60 times a factor below 2^27, as (high, low) in units of 2^28 and 1."""
    mask = (np.uint64(1) << _LIMB) - np.uint64(1)
    low = (values & mask) * np.uint64(factor)
    return (values >> _LIMB) * np.uint64(factor) + (low >> _LIMB), low & mask


def quantise(vectors: NDArray[np.floating]) -> Rows:
    """(N, D) int8 rows of finite vectors (N, D) that are not all zero: nearest integers, the largest entry +-127.

    Every operation is on one entry and rounds as IEEE 754 says, so that the bits are the same everywhere.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scaled = vectors / largest
    scaled *= vectors.dtype.type(127)
    return np.asarray(np.rint(scaled, out=scaled).astype(np.int8))


def squared_norms(rows: Rows) -> Ints:
    """(N,) squared lengths of rows (N, D), exact."""
    total = np.zeros(len(rows), np.int64)
    for start in range(0, rows.shape[1], EXACT_WIDTH):
        piece = rows[:, start : start + EXACT_WIDTH].astype(np.float32)
        total += np.einsum("ij,ij->i", piece, piece).astype(np.int64)
    return total


def cosines(dots: Ints, squares: Ints) -> NDArray[np.float64]:
    """(C,) cosines of pairs of rows that differ: below 1.0, which is kept for equal rows.

    Two rows that differ have squares - dot^2 >= 1, so that this rounds nothing up to 1.0 while squares < 2^50.
    """
    below_one = np.nextafter(1.0, 0.0)
    return np.minimum(dots / np.sqrt(squares.astype(np.float64)), below_one)
