from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.runner.session.worker_probe import package_digest, unmet


def test_requirements_that_hold_here_are_met() -> None:
    lines = ["numpy>=1", "numpy>=999", "no-such-package", "ray; python_version < '3'", "--find-links /wheels"]
    assert unmet(lines) == ["numpy>=999", "no-such-package", "--find-links /wheels"]


def test_a_package_is_known_by_what_its_files_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert package_digest("no_such_package.inner") is None
    for name in ("first_arm", "second_arm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("JOINTS = 6", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    same = package_digest("first_arm")
    assert same and same == package_digest("second_arm")
    (tmp_path / "second_arm" / "__init__.py").write_text("JOINTS = 7", encoding="utf-8")
    assert package_digest("second_arm") != same
