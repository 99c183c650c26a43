"""Folders that live as long as their process: removed at its end, or by the next one where it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "beam-ray-"
_LOCK = "owner.lock"


class SessionFolder:
    """A private new folder in `parent`, which is made where it is missing; folders of killed owners are removed."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        _remove_ownerless(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # locked before it has its name, so that nobody ever sees it unlocked while we live
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = unnamed.open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove the folder and all in it; what another process still writes does not matter."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_ownerless(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            # its owner lives, or it is being made or removed
            continue
