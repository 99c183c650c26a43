"""The two products of semantic deduplication, on NumPy or on a device of torch, with the same results.

Nearest centroids come from integers alone. Pairs are first sifted by a bound that rounding cannot push below the
truth, then decided by integers: so a result depends neither on the device nor on threads, tiles or the order of sums.
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from transforms.deduplication.quantised import EXACT_WIDTH, Ints, Rows, squared_norms

Device = Literal["cpu", "cuda", "torch"]
"""`cpu` is NumPy; `cuda` and `torch` are torch on a GPU and on the CPU."""
TILE = 1024
"""Rows of a tile: a product of two is 4 MiB."""


class NumpyArrays:
    """What the products need of NumPy."""

    def put(self, values: NDArray[Any]) -> Any:
        """An array on the device, as float32."""
        return values.astype(np.float32, copy=False)

    def double(self, values: Any) -> Any:
        """The same in float64."""
        return values.astype(np.float64)

    def largest(self, scores: Any) -> Any:
        """(N,) first place of the largest value of each row."""
        return scores.argmax(axis=1)

    def exclude(self, scores: Any, places: Any) -> None:
        """Make one value of each row the smallest."""
        scores[np.arange(len(scores)), places] = -np.inf

    def at(self, scores: Any, places: Any) -> Any:
        """(N,) one value of each row."""
        return scores[np.arange(len(scores)), places]

    def at_least(self, scores: Any, limits: NDArray[np.float32]) -> Any:
        """Where scores (A, B) reach the limit of their row (A, 1) or of all (1, 1), as a mask (A * B,)."""
        return (scores >= limits).reshape(-1)

    def count(self, mask: Any) -> int:
        """True values of a mask."""
        return int(np.count_nonzero(mask))

    def places(self, mask: Any) -> Any:
        """(C,) places of a mask's true values."""
        return np.flatnonzero(mask)

    def back(self, values: Any) -> NDArray[Any]:
        """An array from the device."""
        return np.asarray(values)


class TorchArrays:
    """The same of torch."""

    def __init__(self, device: str) -> None:
        try:
            self._torch: Any = importlib.import_module("torch")
        except ImportError as error:
            raise ImportError("device 'cuda' needs torch: install the extra `gpu`, or set device to 'cpu'") from error
        if device == "cuda" and not self._torch.cuda.is_available():
            raise RuntimeError("device is 'cuda' and torch finds no GPU here; set device to 'cpu', or mend the driver")
        self._device = device

    def put(self, values: NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.array(values, order="C")).to(self._device).float()

    def double(self, values: Any) -> Any:
        return values.double()

    def largest(self, scores: Any) -> Any:
        return scores.argmax(dim=1)

    def exclude(self, scores: Any, places: Any) -> None:
        scores.scatter_(1, places[:, None], float("-inf"))

    def at(self, scores: Any, places: Any) -> Any:
        return scores.gather(1, places[:, None])[:, 0]

    def at_least(self, scores: Any, limits: NDArray[np.float32]) -> Any:
        return (scores >= self.put(limits)).reshape(-1)

    def count(self, mask: Any) -> int:
        return int(self._torch.count_nonzero(mask))

    def places(self, mask: Any) -> Any:
        return self._torch.nonzero(mask)[:, 0]

    def back(self, values: Any) -> NDArray[Any]:
        return np.asarray(values.cpu().numpy())


Arrays = NumpyArrays | TorchArrays


def arrays_of(device: Device) -> Arrays:
    """The arrays of a device; raises ImportError or RuntimeError where it is not there, ValueError of another name."""
    if device == "cpu":
        return NumpyArrays()
    if device == "torch":
        return TorchArrays("cpu")
    if device == "cuda":
        return TorchArrays("cuda")
    raise ValueError(f"device is {device!r}; use 'cpu', 'cuda' or 'torch'")


def exact_products(left: Rows, right: Rows, arrays: Arrays) -> Any:
    """(A, B) products of int8 rows (A, D) and (B, D), exact: float32, or float64 where D > 1040."""
    if left.shape[1] <= EXACT_WIDTH:
        return arrays.put(left) @ arrays.put(right).T
    total: Any = 0
    for start in range(0, left.shape[1], EXACT_WIDTH):
        piece = slice(start, start + EXACT_WIDTH)
        total = total + arrays.double(arrays.put(left[:, piece]) @ arrays.put(right[:, piece]).T)
    return total


NONE = -1
"""In place of a centroid that is too far behind the nearest one."""


def nearest(
    rows: Rows,
    centroids: Rows,
    weights: NDArray[np.float32],
    count: int,
    arrays: Arrays,
    margin: float = math.inf,
) -> NDArray[np.int32]:
    """(N, count) centroids with the largest cosine to each row, nearest first, the lower number of equal ones first;
    `NONE` for those whose cosine is below the nearest one's by more than `margin`.

    A score is an exact product times the centroid's weight (K,), rounded once, so ties and all it is the same anywhere.
    """
    scores = exact_products(rows, centroids, arrays)
    scores = scores * arrays.put(weights)
    # a score is a cosine times the row's length
    short = margin * np.sqrt(squared_norms(rows).astype(np.float64)) if margin < math.inf else None
    found = []
    first = None
    for turn in range(count):
        best = arrays.largest(scores)
        found.append(arrays.back(best).astype(np.int32))
        if short is not None:
            reached = arrays.back(arrays.at(scores, best)).astype(np.float64)
            first = reached if first is None else first
            found[-1][first - reached > short] = NONE
        if turn + 1 < count:
            arrays.exclude(scores, best)
    return np.stack(found, axis=1)


HEAD = 40
"""Directions that sift pairs: on clustered vectors they leave one pair in a thousand."""
_LEARNT_FROM = 512
_ROUNDS = 2
_ORTHONORMAL = 1e-11
"""How far products of directions may be from those of orthonormal ones: far below the 1e-9 that bounds give back."""
_WORTH_HEADS = 128
"""Rows to compare from which on narrow products save more than making heads costs: D * H against asked * (D - H)."""


def main_directions(unit: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """(D, count) orthonormal directions in which rows (M, D) mostly lie, by subspace iteration on some of them.

    Any orthonormal directions give the same pairs; these leave fewer to decide.
    """
    some = unit[:: max(1, len(unit) // _LEARNT_FROM)].astype(np.float64)
    found = some[:: max(1, len(some) // count)][:count].T
    for _ in range(_ROUNDS):
        found = orthonormal(some.T @ (some @ found))
    return found


def orthonormal(columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthonormal columns (D, H) that span the same.

    By Cholesky's factor, twice (CholeskyQR2, Yamamoto et al., 2015): products alone, where LAPACK's QR waits for its
    threads; by QR where columns are too nearly dependent for that.
    """
    found = columns
    for _ in range(2):
        try:
            factor = np.linalg.inv(np.linalg.cholesky(found.T @ found))
        except np.linalg.LinAlgError:
            break
        found = found @ factor.T
    if np.abs(found.T @ found - np.eye(found.shape[1])).max() < _ORTHONORMAL:
        return found
    return np.asarray(np.linalg.qr(columns)[0])


@dataclass(frozen=True)
class Sieve:
    """What sifts pairs of M rows: `heads` (M, H + 1), unit rows in H directions and the length of what is left.

    u.v <= u_head.v_head + |u_rest| |v_rest| (Cauchy-Schwarz), so that a narrow product bounds the cosine. Where making
    heads costs more than it saves there are none, and whole rows are multiplied.
    """

    rows: Rows
    lengths: NDArray[np.float32]
    heads: NDArray[np.float32] | None
    slack: float

    @staticmethod
    def of(rows: Rows, squares: Ints, asked: int) -> Sieve:
        """`squares` (M,) are the squared norms of int8 rows (M, D), of which `asked` are compared with all."""
        width = rows.shape[1]
        lengths = np.sqrt(squares.astype(np.float64)).astype(np.float32)
        # twice the bound of Higham (Accuracy and Stability, 3.1) on a float32 product of unit rows in any order
        slack = (width + 16) * 2.0**-23
        if width < 3 * HEAD or len(rows) < _LEARNT_FROM or asked < _WORTH_HEADS:
            return Sieve(rows, lengths, None, slack)
        step = max(1, len(rows) // _LEARNT_FROM)
        directions = main_directions(_unit(rows[::step], lengths[::step]), HEAD)
        heads = np.empty((len(rows), HEAD + 1), np.float32)
        for start in range(0, len(rows), TILE):
            own = slice(start, start + TILE)
            # in float64, where what rounding takes from the directions and the rest stays below the 1e-9 given back
            head = rows[own].astype(np.float64) @ directions
            head /= np.sqrt(squares[own].astype(np.float64))[:, None]
            heads[own, :HEAD] = head
            heads[own, HEAD] = np.sqrt(np.maximum(1 - (head**2).sum(axis=1), 0) + 1e-9)
        return Sieve(rows, lengths, heads, slack)

    def sift(self, left: slice, right: slice, least: float, crowded: float, arrays: Arrays) -> tuple[Ints, Ints]:
        """Places (a, b) in two tiles of all pairs whose cosine may reach `least`, and of few others.

        Where heads leave more than a share `crowded` of the pairs, whole rows are multiplied.
        """
        mask = None
        if self.heads is not None:
            mask = self._by_heads(left, right, least, arrays)
            mask = None if arrays.count(mask) > crowded * mask.shape[0] else mask
        if mask is None:
            mask = self._by_rows(left, right, least, arrays)
        a, b = np.divmod(arrays.back(arrays.places(mask)).astype(np.int64), len(self.rows[right]))
        return a, b

    def _by_heads(self, left: slice, right: slice, least: float, arrays: Arrays) -> Any:
        assert self.heads is not None
        # of a tile with itself NumPy takes a symmetric product and copies its other half, which costs more
        other = self.heads[right].copy() if left == right else self.heads[right]
        return arrays.at_least(arrays.put(self.heads[left]) @ arrays.put(other).T, self._limit(least))

    def _by_rows(self, left: slice, right: slice, least: float, arrays: Arrays) -> Any:
        # only the rows on the right are made unit rows: they are often few, and those on the left many
        unit = _unit(self.rows[right], self.lengths[right])
        return arrays.at_least(
            arrays.put(self.rows[left]) @ arrays.put(unit).T, self._limit(least) * self.lengths[left, None]
        )

    def _limit(self, least: float) -> NDArray[np.float32]:
        return np.full((1, 1), least - self.slack, np.float32)


def _unit(rows: Rows, lengths: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(rows, lengths[:, None], dtype=np.float32)


def paired_products(left: Rows, right: Rows) -> Ints:
    """(C,) products of int8 rows (C, D) one by one, exact."""
    total = np.zeros(len(left), np.int64)
    for start in range(0, left.shape[1], EXACT_WIDTH):
        piece = slice(start, start + EXACT_WIDTH)
        a, b = left[:, piece].astype(np.float32), right[:, piece].astype(np.float32)
        total += np.einsum("ij,ij->i", a, b).astype(np.int64)
    return total
