"""One side of the signature benchmark, in a process of its own on one core.

    python benchmarks/dedup_signature_arms.py ARM CORPUS.parquet PAIRS CORE

Run by the interpreter that has the arm's library; it needs NumPy and pyarrow besides and nothing of this project unless
the arm is ours. For each line `run` on stdin, one pass over the corpus and a JSON line with its CPU seconds (all
threads). `check` answers with the estimated Jaccard of the planted pairs, `quit` ends it. What a pass starts from
(decoded strings, hashes) is made beforehand.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq

N, PERMUTATIONS, SEED = 5, 256, 1
Signatures = Any
Pass = Callable[[], Signatures]


def grams(text: str) -> Iterator[str]:
    """Word 5-grams as the fastest Python that we know; every corpus text has at least five words."""
    w = text.split()
    return map(" ".join, zip(w, w[1:], w[2:], w[3:], w[4:]))  # noqa: B905


def byte_grams(text: bytes) -> Iterator[bytes]:
    """The same as bytes: what xxhash takes."""
    w = text.split()
    return map(b" ".join, zip(w, w[1:], w[2:], w[3:], w[4:]))  # noqa: B905


def as_bytes(texts: Any) -> list[bytes]:
    """The texts as Python bytes."""
    return [text.encode() for text in texts.to_pylist()]


def _hashes(texts: Any) -> tuple[Any, Any]:
    """Pre-hashed 5-grams of all texts, the same for every arm that starts from hashes."""
    import xxhash

    held = [[xxhash.xxh3_64_intdigest(gram) for gram in byte_grams(text)] for text in as_bytes(texts)]
    return np.array([h for one in held for h in one], np.uint64), np.cumsum([0, *map(len, held)])


def ours(texts: Any, numba: bool) -> Pass:
    """Arrow strings to signatures."""
    from transforms.deduplication import minhash, text_shingles

    hashed = text_shingles.word_hashes if numba else text_shingles.numpy_word_hashes
    signed = minhash.signatures if numba else minhash.numpy_signatures
    perms = minhash.permutations(PERMUTATIONS, SEED)

    def work() -> Signatures:
        out = []
        # as the pipeline works: a block of texts at a time
        for start in range(0, len(texts), 2000):
            shingles = hashed(texts.slice(start, 2000), N)
            out.append(signed(shingles.hashes, shingles.offsets, perms))
        return np.vstack(out)

    return work


def ours_from_hashes(texts: Any, numba: bool) -> Pass:
    """A flat array of hashes and offsets to signatures."""
    from transforms.deduplication import minhash

    signed = minhash.signatures if numba else minhash.numpy_signatures
    hashes, offsets = _hashes(texts)
    perms = minhash.permutations(PERMUTATIONS, SEED)
    return lambda: signed(hashes, offsets, perms)


def ours_from_hashes_torch(texts: Any) -> Pass:
    """As `ours_from_hashes`, by the array code on torch."""
    import torch

    from transforms.deduplication.array_minhash import array_signatures
    from transforms.deduplication.minhash import permutations

    torch.set_num_threads(1)
    hashes, offsets = _hashes(texts)
    there, bounds = torch.from_numpy(hashes.view(np.int64)), torch.from_numpy(offsets)
    perms = permutations(PERMUTATIONS, SEED)
    return lambda: array_signatures(there, bounds, perms).numpy()


def rensa_batch(texts: Any) -> Pass:
    """R-MinHash's matrix of a whole batch of token sets."""
    from rensa import RMinHash

    strings = texts.to_pylist()
    return lambda: RMinHash.digest_matrix_from_token_sets((list(grams(t)) for t in strings), PERMUTATIONS, SEED)


def rensa_bytes(texts: Any) -> Pass:
    """R-MinHash's matrix of a whole batch of sets of bytes."""
    from rensa import RMinHash

    strings = as_bytes(texts)
    sign = RMinHash.digest_matrix_from_token_byte_sets
    return lambda: sign((list(byte_grams(t)) for t in strings), PERMUTATIONS, SEED)


def rensa_update(texts: Any) -> Pass:
    """R-MinHash, one object a document."""
    from rensa import RMinHash

    strings = texts.to_pylist()

    def work() -> Signatures:
        out = []
        for text in strings:
            one = RMinHash(PERMUTATIONS, SEED)
            one.update(list(grams(text)))
            out.append(one.digest())
        return out

    return work


def rensa_rho(texts: Any) -> Pass:
    """Rensa's rho sketch: it samples positions of tokens, so it is no MinHash of the set."""
    from rensa import RMinHash

    strings = texts.to_pylist()
    sign = RMinHash.digest_matrix_from_token_sets_rho
    return lambda: sign((list(grams(t)) for t in strings), PERMUTATIONS, SEED)


def rensa_flat(texts: Any) -> Pass:
    """R-MinHash's matrix from one flat buffer of hashes and its offsets."""
    from rensa import RMinHash

    hashes, offsets = _hashes(texts)
    rows = offsets.astype(np.uint64)
    return lambda: RMinHash.digest_matrix_from_flat_token_hashes(hashes, rows, PERMUTATIONS, SEED)


def rensa_hash_sets(texts: Any) -> Pass:
    """R-MinHash's matrix from Python lists of hashes, the call that rensa had first."""
    from rensa import RMinHash

    hashes, offsets = _hashes(texts)
    held = [part.tolist() for part in np.split(hashes, offsets[1:-1])]
    return lambda: RMinHash.digest_matrix_from_token_hash_sets(held, PERMUTATIONS, SEED)


def datasketch(texts: Any) -> Pass:
    """`MinHash.generator` with xxh32, its default 32-bit scheme."""
    import xxhash
    from datasketch import MinHash

    strings = as_bytes(texts)

    def work() -> Signatures:
        sketches = MinHash.generator(map(byte_grams, strings), num_perm=PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
        return [sketch.hashvalues for sketch in sketches]

    return work


def datatrove(texts: Any) -> Pass:
    """`MinhashDedupSignature.get_signature` on xxh64 n-grams; its tokenizer and its text cleaning are left out."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import create_hash_func

    config = MinhashConfig(n_grams=N, num_buckets=32, hashes_per_bucket=8, seed=SEED)
    step = object.__new__(MinhashDedupSignature)
    step.config, step.num_hashes, step._parameters = config, PERMUTATIONS, None
    hashed = create_hash_func(config.hash_config)
    strings = texts.to_pylist()

    def work() -> Signatures:
        out = []
        for text in strings:
            shingles = np.fromiter([hashed(gram) for gram in grams(text)], np.uint64).reshape(-1, 1)
            out.append(step.get_signature(shingles))
        return out

    return work


ARMS: dict[str, tuple[Callable[[Any], Pass], Sequence[str]]] = {
    "ours": (lambda texts: ours(texts, True), ("numpy", "numba", "pyarrow")),
    "ours, NumPy": (lambda texts: ours(texts, False), ("numpy",)),
    "rensa batch": (rensa_batch, ("rensa",)),
    "rensa batch of bytes": (rensa_bytes, ("rensa",)),
    "rensa update": (rensa_update, ("rensa",)),
    "rensa rho": (rensa_rho, ("rensa",)),
    "datasketch xxh32": (datasketch, ("datasketch", "xxhash", "numpy")),
    "datatrove": (datatrove, ("datatrove", "xxhash", "numpy")),
    "hashes: ours": (lambda texts: ours_from_hashes(texts, True), ("numpy", "numba")),
    "hashes: ours, NumPy": (lambda texts: ours_from_hashes(texts, False), ("numpy",)),
    "hashes: ours, torch": (ours_from_hashes_torch, ("torch",)),
    "hashes: rensa flat": (rensa_flat, ("rensa",)),
    "hashes: rensa sets": (rensa_hash_sets, ("rensa",)),
}


def estimates(signed: Signatures, pairs: int) -> list[float]:
    """The share of equal values of each planted pair; every library's signature is rows of values."""
    if hasattr(signed, "to_rows"):
        signed = signed.to_rows()
    originals, copies = np.asarray(signed[:pairs]), np.asarray(signed[len(signed) - pairs :])
    equal = (originals == copies).reshape(pairs, -1)
    assert equal.shape[1] == PERMUTATIONS
    return equal.mean(axis=1).tolist()


def main(arm: str, corpus: str, pairs: int, core: int) -> None:
    """Answer lines until `quit`."""
    os.sched_setaffinity(0, {core})
    texts = pq.read_table(corpus).column("text").combine_chunks()
    prepare, packages = ARMS[arm]
    work = prepare(texts)
    signed = work()
    print(json.dumps([f"{name} {importlib.metadata.version(name)}" for name in packages]), flush=True)
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        if line.strip() == "check":
            print(json.dumps(estimates(signed, pairs)), flush=True)
            continue
        started = time.process_time()
        signed = work()
        print(json.dumps(time.process_time() - started), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
