from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def robot_data() -> Path:
    """Folder of the real recordings; the test is skipped where ROBOT_DATA does not name one."""
    folder = os.environ.get("ROBOT_DATA")
    if not folder:
        pytest.skip("ROBOT_DATA is not set: real recordings are absent")
    return Path(folder)
