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


@pytest.fixture(scope="session")
def curated_recordings(robot_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of one run of examples/real_data.yaml in process; tests only read it."""
    # tests that run no job do without Beam's import
    from beam_pipeline.__main__ import main
    from tests.job import REAL_DATA

    output = tmp_path_factory.mktemp("real") / "out"
    assert main(["--config", str(REAL_DATA), "--output", str(output)]) == 0
    return output
