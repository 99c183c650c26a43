"""Which paths are URLs of an object store; apart from what reads them, which local files need not load."""

from __future__ import annotations

from collections.abc import Mapping

SCHEMES: Mapping[str, str] = {"gs": "gcs", "s3": "s3"}
"""Scheme of a URL, and the extra of this package that serves it."""
_HEADS = tuple(f"{scheme}://" for scheme in SCHEMES)


def is_url(text: str) -> bool:
    """Whether a path names an object store."""
    return text.startswith(_HEADS)


def key_of(url: str) -> str:
    """`bucket/key`, as fsspec calls it."""
    return url.partition("://")[2].rstrip("/")
