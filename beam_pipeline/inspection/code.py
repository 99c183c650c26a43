"""One stable code of `inspect`, and the names of what inspection itself finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]

UNKNOWN_BESIDE = "inspect.unknown_beside"
CAMERA_WITHOUT_FILES = "inspect.camera_without_files"
VIDEO_SHORT = "inspect.video_short"
RATE_UNKNOWN = "inspect.rate_unknown"
NO_INSTRUCTION = "inspect.no_instruction"
GENERIC_INSTRUCTION = "inspect.generic_instruction"
OTHER = "inspect.other"


@dataclass(frozen=True)
class Code:
    """One kind of disagreement.

    `keys` are the loader's checks (`metadata.total`) and rules (`truncated`) that it stands for, or a name of ours.
    An error is something promised that is not there or cannot be read; a warning, two statements that disagree; a
    note, something that nothing states.
    """

    code: str
    severity: Severity
    keys: tuple[str, ...]
    meaning: str
    remedy: str
