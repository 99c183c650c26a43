"""MinHash as a RunInference model: blocks of documents in, signatures out."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from transforms.beam_inference import ModelHandler, PredictionResult
from transforms.deduplication.array_minhash import array_signatures
from transforms.deduplication.compiled import allowed_threads
from transforms.deduplication.cuda_kernels import cuda_signatures, cupy
from transforms.deduplication.minhash import Hashes, Ints, Permutations, permutations, signatures
from transforms.deduplication.shingles import Offsets

Device = Literal["cpu", "cuda"]
Sign = Callable[[Hashes, Offsets, Permutations], Ints]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DocumentBlock:
    """Many documents in one element: N ids, all shingles as little-endian uint64 bytes, N + 1 offsets into them."""

    ids: tuple[str, ...]
    shingles: bytes
    offsets: tuple[int, ...]

    def hashes(self) -> Hashes:
        """Every document's shingles, one after another, in place where the machine is little-endian."""
        return np.frombuffer(self.shingles, "<u8").astype(np.uint64, copy=False)


def pack(documents: Iterable[tuple[str, bytes]]) -> DocumentBlock:
    """(id, shingles as uint64 bytes) of many documents as one block."""
    held = list(documents)
    offsets = np.cumsum([0, *(len(body) // 8 for _, body in held)])
    return DocumentBlock(
        tuple(name for name, _ in held), b"".join(body for _, body in held), tuple(offsets.astype(int).tolist())
    )


class MinHasher:
    """The model: permutations, and how to apply them on one device. A class of its own, since Beam holds it weakly."""

    def __init__(self, perms: Permutations, device: Device) -> None:
        self._perms = perms
        self._sign: Sign = _on_cpu if device == "cpu" else _on_gpu()

    def sign(self, block: DocumentBlock) -> Ints:
        """(N, P) int32 signatures of a block."""
        return self._sign(block.hashes(), np.array(block.offsets, np.int64), self._perms)


def _on_cpu(shingles: Hashes, offsets: Offsets, perms: Permutations) -> Ints:
    return signatures(shingles, offsets, perms, allowed_threads())


def _on_gpu() -> Sign:
    """By the CUDA kernel where CuPy is, else by torch's arrays where torch sees a GPU."""
    try:
        cupy()
    except ImportError:
        if not _torch_sees_a_gpu():
            raise
        _LOG.warning(
            "MinHash signs on the GPU by torch, in many small kernels; for the one of CuPy install the extra `gpu`"
        )
        return torch_signatures
    return cuda_signatures


def _torch_sees_a_gpu() -> bool:
    try:
        return bool(importlib.import_module("torch").cuda.is_available())
    except ImportError:
        return False


def torch_signatures(shingles: Hashes, offsets: Offsets, perms: Permutations, device: Device = "cuda") -> Ints:
    """(N, P) signatures by torch's arrays on a device."""
    torch = importlib.import_module("torch")
    there = torch.tensor(shingles.view(np.int64), device=device)
    return array_signatures(there, torch.tensor(offsets, device=device), perms).cpu().numpy()


class MinHashHandler(ModelHandler[DocumentBlock, PredictionResult, MinHasher]):
    """Signs `DocumentBlock`s with `count` permutations of `seed`; the same bits on either device.

    The element is a block, so a batch is a few of them. On device 'cuda' ask for a GPU with
    `RunInference(handler).with_resource_hints(gpus=1)`.
    """

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
