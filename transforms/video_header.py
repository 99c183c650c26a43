"""What a video's header says, as the media child measures it and as everybody else asks for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VideoHeader:
    """The first video stream by the file's header: 0 where it says nothing. `rate_hz` is the mean over the file."""

    codec: str
    width: int
    height: int
    n_declared: int
    duration_ns: int
    rate_hz: float
