"""Content hashes of files, for what must not import Beam too."""

from __future__ import annotations

from pathlib import Path

import xxhash

_CHUNK = 1 << 20


def file_hash(path: Path) -> str:
    """xxh3-128 of a file's bytes, read in pieces."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return str(digest.hexdigest())
