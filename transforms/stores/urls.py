"""Which paths are URLs of an object store; apart from what reads them, which local files need not load."""

from __future__ import annotations

import re
from collections.abc import Mapping

SCHEMES: Mapping[str, str] = {"gs": "gcs", "s3": "s3"}
"""Scheme of a URL, and the extra of this package that serves it."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HEADS = tuple(f"{scheme}://" for scheme in SCHEMES)


def is_url(text: str) -> bool:
    """Whether a path names an object store."""
    return text.startswith(_HEADS)


def scheme_of(text: str) -> str:
    """`az://` of a URL of any store, known or not; empty for a path."""
    found = _SCHEME.match(text)
    return found[0] if found else ""


def key_of(url: str) -> str:
    """`bucket/key`, as fsspec calls it."""
    return url.partition("://")[2].rstrip("/")
