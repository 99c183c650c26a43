"""The kernels of minhash.cu through CuPy: compiled once a process by NVRTC for the GPU that is there."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from transforms.deduplication.letters import letter_table
from transforms.deduplication.minhash import Ints, Permutations
from transforms.deduplication.shingles import Hashes, Offsets
from transforms.deduplication.text_words import TextBytes

SOURCE = Path(__file__).with_name("minhash.cu")
_BLOCKS_MAX = 1 << 20
_TEXT_THREADS = 128


@dataclass(frozen=True)
class DeviceShingles:
    """CuPy arrays: the i-th of N documents holds `hashes[begins[i]:ends[i]]`, in any order and with repeats."""

    hashes: Any
    begins: Any
    ends: Any


def cupy() -> Any:
    """CuPy; raises ImportError that names the extra."""
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError("device 'cuda' needs CuPy: install the extra `gpu`, or set device to 'cpu'") from error


@lru_cache(1)
def _module() -> Any:
    return cupy().RawModule(code=SOURCE.read_text(encoding="utf-8"), options=("--std=c++17",))


def sign_on_device(shingles: DeviceShingles, perms: Permutations) -> Any:
    """(N, P) int32 signatures as a CuPy array; a document without shingles gets no meaningful one."""
    cp = cupy()
    documents, products = len(shingles.begins), len(perms.a)
    out = cp.empty((documents, perms.count), cp.int32)
    if documents:
        # whole warps, two for 256 permutations: 32 such blocks fill an SM of 64 warps
        threads = min(-(-products // 32) * 32, 256)
        a, b = cp.asarray(perms.a), cp.asarray(perms.b)
        sizes = (np.int64(documents), a, b, np.int32(products), np.int32(perms.count))
        kernel = _module().get_function("sign_documents")
        arguments = (shingles.hashes, shingles.begins, shingles.ends, *sizes, out)
        kernel((min(documents, _BLOCKS_MAX),), (threads,), arguments)
    return out


def hash_on_device(data: Any, offsets: Any, n: int) -> DeviceShingles:
    """Word n-grams of N texts that lie on the device: `data` (B,) uint8, `offsets` (N + 1,) int64."""
    cp = cupy()
    texts = len(offsets) - 1
    hashes = cp.empty((len(data) + texts) // 2 + 1, cp.uint64)
    begins, ends = cp.empty(texts, cp.int64), cp.empty(texts, cp.int64)
    if texts:
        kernel = _module().get_function("hash_words")
        blocks = min(-(-texts // _TEXT_THREADS), _BLOCKS_MAX)
        letters = cp.asarray(letter_table())
        arguments = (data, offsets, np.int64(texts), np.int32(n), letters, hashes, begins, ends)
        kernel((blocks,), (_TEXT_THREADS,), arguments)
    return DeviceShingles(hashes, begins, ends)


def cuda_signatures(shingles: Hashes, offsets: Offsets, perms: Permutations) -> Ints:
    """(N, P) signatures of N documents on the host, signed on the GPU."""
    cp = cupy()
    bounds = cp.asarray(offsets)
    return sign_on_device(DeviceShingles(cp.asarray(shingles), bounds[:-1], bounds[1:]), perms).get()


def cuda_text_signatures(texts: TextBytes, n: int, perms: Permutations) -> tuple[Ints, Offsets]:
    """(N, P) signatures and (N,) shingles of N texts: only bytes go to the GPU, only signatures come back.

    A text of 0 shingles has no meaningful signature.
    """
    cp = cupy()
    shingles = hash_on_device(cp.asarray(texts.data), cp.asarray(texts.offsets), n)
    return sign_on_device(shingles, perms).get(), (shingles.ends - shingles.begins).get()
