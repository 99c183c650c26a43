from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from beam_pipeline.runner.session.session_folder import SessionFolder
from tests.runner.session.conftest import ROOT

_KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from beam_pipeline.runner.session.session_folder import SessionFolder
print(SessionFolder(Path(sys.argv[2])).path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_is_private_and_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    folder = SessionFolder(tmp_path / "made" / "too")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "spilled").write_bytes(bytes(10))
    folder.remove()
    assert not folder.path.exists() and (tmp_path / "made" / "too").is_dir()


def test_the_next_owner_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    living = SessionFolder(tmp_path)
    (tmp_path / "other").mkdir()
    killed = subprocess.run([sys.executable, "-c", _KILLED, ROOT, tmp_path], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.parent == tmp_path and left.is_dir()
    SessionFolder(tmp_path).remove()
    assert not left.exists()
    assert living.path.is_dir() and (tmp_path / "other").is_dir()
    living.remove()
