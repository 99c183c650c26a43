"""Headers of a camera's video files: all of a few, evenly spaced ones of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from beam_pipeline.inspection.report import Notices
from transforms.media import VideoHeader, shared_decoder
from transforms.unreadable import Unreadable

READ_FILES = 128
"""Headers read per camera: a file takes milliseconds, and sets of 100,000 files exist."""


def spaced(items: Sequence[str], limit: int) -> list[str]:
    """At most `limit` items, the first and the last among them, evenly spaced."""
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def read_headers(root: Path, files: Sequence[str], notices: Notices) -> Mapping[str, VideoHeader]:
    """Headers by file, at most READ_FILES of `files` (relative to `root`); those that cannot be read are noticed."""
    found: dict[str, VideoHeader] = {}
    for file in spaced(files, READ_FILES):
        try:
            found[file] = shared_decoder().header(str(root / file))
        except Unreadable as error:
            notices.add("integrity.video_unreadable", error.problem.detail)
    return found


def period_ns(header: VideoHeader) -> int:
    """Mean distance of frames; 0 where the header does not tell."""
    if header.rate_hz > 0:
        return round(1e9 / header.rate_hz)
    return header.duration_ns // header.n_declared if header.n_declared else 0
