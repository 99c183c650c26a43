"""MinHash as a RunInference model: blocks of documents in, signatures out."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from apache_beam.ml.inference.base import ModelHandler, PredictionResult
from numpy.typing import NDArray

from transforms.deduplication.minhash import (
    Hashes,
    Ints,
    Permutations,
    mix32,
    padded_signatures,
    permutations,
    signatures,
)

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class DocumentBlock:
    """Many documents in one element: N ids, all shingles as little-endian uint64 bytes, N + 1 offsets into them."""

    ids: tuple[str, ...]
    shingles: bytes
    offsets: tuple[int, ...]

    def hashes(self) -> Hashes:
        """Every document's shingles, one after another."""
        return np.frombuffer(self.shingles, "<u8").astype(np.uint64)


def pack(documents: Iterable[tuple[str, bytes]]) -> DocumentBlock:
    """(id, shingles as uint64 bytes) of many documents as one block."""
    held = list(documents)
    offsets = np.cumsum([0, *(len(body) // 8 for _, body in held)])
    return DocumentBlock(
        tuple(name for name, _ in held), b"".join(body for _, body in held), tuple(offsets.astype(int).tolist())
    )


class MinHasher:
    """The model: permutations, and how to apply them on one device."""

    def __init__(self, perms: Permutations, device: Device) -> None:
        self._perms = perms
        self._xp: Any = None if device == "cpu" else _cupy()

    def sign(self, block: DocumentBlock) -> Ints:
        """(N, P) int32 signatures of a block."""
        offsets = np.array(block.offsets, np.int64)
        if self._xp is None:
            return signatures(block.hashes(), offsets, self._perms)
        return rectangle_signatures(block.hashes(), offsets, self._perms, self._xp)


def rectangle_signatures(shingles: Hashes, offsets: NDArray[np.int64], perms: Permutations, xp: Any) -> Ints:
    """As `signatures`, in rectangles of documents of like length (within a quarter octave) on the device of `xp`."""
    sizes = np.diff(offsets)
    mixed = mix32(shingles)
    out = np.empty((len(sizes), len(perms.a)), np.int32)
    octaves = np.ceil(np.log2(np.maximum(sizes, 1)) * 4).astype(np.int64)
    for octave in np.unique(octaves):
        rows = np.flatnonzero(octaves == octave)
        columns = np.arange(sizes[rows].max())
        places = np.minimum(offsets[rows][:, None] + columns, offsets[rows + 1][:, None] - 1)
        signed = padded_signatures(xp.asarray(mixed[places]), perms, xp)
        out[rows] = signed.get() if hasattr(signed, "get") else signed
    return out


def _cupy() -> Any:
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError("device 'cuda' needs CuPy: install the extra `gpu`, or set device to 'cpu'") from error


class MinHashHandler(ModelHandler[DocumentBlock, PredictionResult, MinHasher]):
    """Signs `DocumentBlock`s with `count` permutations of `seed`; the same bits on either device."""

    def __init__(self, count: int, seed: int, device: Device = "cpu") -> None:
        super().__init__(min_batch_size=1, max_batch_size=4)
        if device not in ("cpu", "cuda"):
            raise ValueError(f"device is {device!r}; use 'cpu' or 'cuda'")
        self._count, self._seed, self._device = count, seed, device

    def load_model(self) -> MinHasher:
        return MinHasher(permutations(self._count, self._seed), self._device)

    def run_inference(
        self,
        batch: Sequence[DocumentBlock],
        model: MinHasher,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        return [PredictionResult(block, model.sign(block)) for block in batch]

    def get_num_bytes(self, batch: Sequence[DocumentBlock]) -> int:
        """Bytes of shingles; Beam's default would pickle the batch to count them."""
        return sum(len(block.shingles) for block in batch)

    def get_metrics_namespace(self) -> str:
        return "demosift"

    def share_model_across_processes(self) -> bool:
        """A kernel's permutations are smaller than the call that would share them."""
        return False
