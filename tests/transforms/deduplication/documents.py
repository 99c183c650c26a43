"""Documents made for tests: files of chosen shingles, and what plain Python says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from transforms.deduplication.document_files import DOCUMENTS, write_documents


def write_sets(folder: Path, sets: Mapping[str, Iterable[int]], files: int = 1) -> list[str]:
    """Documents of these shingles, dealt out over some files."""
    paths = []
    names = list(sets)
    for index in range(files):
        rows = [
            {
                "id": name,
                "content": name.encode().ljust(16, b"\0"),
                "shingles": np.array(sorted(set(sets[name])), "<u8").tobytes(),
            }
            for name in names[index::files]
        ]
        paths.append(write_documents(folder, f"{index:03d}", pa.Table.from_pylist(rows, DOCUMENTS).to_batches()))
    return paths


def set_jaccard(a: Iterable[int], b: Iterable[int]) -> float:
    """Jaccard similarity by Python's sets."""
    left, right = set(a), set(b)
    return len(left & right) / len(left | right) if left | right else 0.0


def text_shingles(text: str, n: int) -> set[tuple[str, ...]]:
    """Word n-grams of an ASCII text, as the documentation tells them."""
    words = text.lower().split()
    if len(words) < n:
        return {tuple(words)} if words else set()
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def components(pairs: Iterable[Sequence[str]]) -> set[frozenset[str]]:
    """Connected components by repeated merging of sets."""
    groups: list[set[str]] = []
    for pair in pairs:
        touching = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if not group & set(pair)] + [set(pair).union(*touching)]
    return {frozenset(group) for group in groups}
