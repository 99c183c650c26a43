"""Sums of float64 values and of their squares without any rounding, so that the order of adding cannot change them.

A finite float64 is m * 2^(e - 53) with an integer |m| < 2^53. Values that share an exponent are added as integers, in
limbs of 18 bits so that sums of up to VALUES_AT_ONCE products stay within 2^53 (values that are float32 all, as most
are, need fewer limbs), and the exponents' sums meet in one Python integer of unbounded size: a superaccumulator
(Kulisch 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

import numpy as np
from numpy.typing import NDArray

VALUES_AT_ONCE = 32_768
"""A coefficient of a square is below 2^38 and 32,768 of them below 2^53: exact in float64, in which bincount adds.

Some twenty arrays of this size are in memory together."""
_LIMB = 18
_SHORT, _SPARE = 24, 29
"""Bits of a float32's integer, and how many more a float64's has."""
_UNIT = 1074
"""Sums count units of 2^-1074, the smallest float64; squares units of 2^-2148."""


@dataclass(frozen=True)
class ExactSums:
    """Of some float64 values their sum in units of 2^-1074, and that of their squares in units of 2^-2148."""

    count: int = 0
    total: int = 0
    squares: int = 0

    def __add__(self, other: ExactSums) -> ExactSums:
        return ExactSums(self.count + other.count, self.total + other.total, self.squares + other.squares)

    def mean(self) -> float:
        """The float64 nearest to the mean; raises ZeroDivisionError of no values."""
        return float(Fraction(self.total, self.count << _UNIT))

    def std(self) -> float:
        """The population's standard deviation, rounded once from the exact variance; ZeroDivisionError of no values."""
        spread = self.count * self.squares - self.total * self.total  # count^2 * variance, units of 2^-2148
        scale = max(0, 128 - spread.bit_length()) // 2 * 2 + 2  # at least 64 bits in the root
        return float(Fraction(isqrt(spread << scale), (self.count << _UNIT) << (scale // 2)))


def exact_sums(values: NDArray[np.float64]) -> list[ExactSums]:
    """Sums of each column of (T, D) values, those that are not finite left out."""
    found = [ExactSums()] * values.shape[1]
    rows = max(1, VALUES_AT_ONCE // max(1, values.shape[1]))
    for start in range(0, len(values), rows):
        found = [a + b for a, b in zip(found, _of_block(values[start : start + rows]), strict=True)]
    return found


def _of_block(values: NDArray[np.float64]) -> list[ExactSums]:
    columns = values.shape[1]
    finite = np.isfinite(values)
    mantissa, exponent = np.frexp(np.where(finite, values, 0.0))
    low = int(exponent.min(initial=0))
    span = int(exponent.max(initial=0)) - low + 1
    place = (np.arange(columns) * span + (exponent - low)).ravel()
    whole = np.ldexp(np.abs(mantissa), 53).astype(np.int64).ravel()
    sign = np.sign(mantissa).ravel()
    zeros = 0 if (whole & (2**_SPARE - 1)).any() else _SPARE
    limb, singles_of, products_of = _short_limbs(whole >> zeros) if zeros else _limbs(whole)

    def add_up(weights: NDArray[np.float64]) -> list[list[int]]:
        found: list[list[int]] = np.bincount(place, weights, columns * span).astype(np.int64).reshape(-1, span).tolist()
        return found

    singles = [add_up(sign * part) for part in singles_of]
    products = [add_up(part) for part in products_of]
    used = np.flatnonzero(np.bincount((exponent - low).ravel(), minlength=span)).tolist()
    counts = finite.sum(axis=0).tolist()
    below = low - 53 + _UNIT + zeros
    return [
        ExactSums(
            counts[column],
            sum(_in_units([part[column][at] for part in singles], limb, at + below) for at in used),
            sum(_in_units([part[column][at] for part in products], limb, 2 * (at + below)) for at in used),
        )
        for column in range(columns)
    ]


_Limbs = tuple[int, list[NDArray[np.float64]], list[NDArray[np.float64]]]


def _limbs(whole: NDArray[np.int64]) -> _Limbs:
    """Bits of a limb, limbs of integers below 2^53 and those of their squares, the lowest first."""
    c, b, a = (((whole >> shift) & (2**_LIMB - 1)).astype(np.float64) for shift in (0, _LIMB, 2 * _LIMB))
    return _LIMB, [c, b, a], [c * c, 2 * b * c, 2 * a * c + b * b, 2 * a * b, a * a]


def _short_limbs(whole: NDArray[np.int64]) -> _Limbs:
    """The same of integers below 2^24, as float32 values have them: one limb, and two of the square."""
    squares = whole * whole
    return (
        _SHORT,
        [whole.astype(np.float64)],
        [(squares & (2**_SHORT - 1)).astype(np.float64), (squares >> _SHORT).astype(np.float64)],
    )


def _in_units(limbs: list[int], bits: int, shift: int) -> int:
    """One exponent's sum; below the normal range, where `shift` is negative, the low bits are zeros."""
    value = 0
    for limb in reversed(limbs):
        value = (value << bits) + limb
    return value << shift if shift >= 0 else value >> -shift
