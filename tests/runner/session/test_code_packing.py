from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner.beam_internals import pickler
from beam_pipeline.runner.session.code_packing import PackedCode, pack_code, pack_package
from tests.runner.session.conftest import make_project


def pack(*flags: str) -> PackedCode:
    return pack_code(PipelineOptions(list(flags)))


def names(archive: bytes | None) -> list[str]:
    assert archive is not None
    return zipfile.ZipFile(io.BytesIO(archive)).namelist()


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_nothing_is_packed_unless_an_option_asks() -> None:
    assert pack() == PackedCode()


def test_a_project_is_packed_as_it_would_lie_in_site_packages_and_left_alone(project: Path) -> None:
    before = tree(project)
    packed = pack(f"--setup_file={project}/setup.py")
    found = names(packed.archive)
    assert {"robot_steps/__init__.py", "robot_units.py", "robot_steps-1.0.dist-info/METADATA"} <= set(found)
    assert not any("setup.py" in name or "__pycache__" in name for name in found)
    assert packed.declared == ("numpy>=1",)
    assert packed.holds("robot_steps") and not packed.holds("robot_units.deeper")
    assert tree(project) == before


def test_equal_code_gives_an_equal_archive_wherever_it_lies_and_changed_code_another(tmp_path: Path) -> None:
    here, there = make_project(tmp_path / "here"), make_project(tmp_path / "there")
    first = pack(f"--setup_file={here}/setup.py")
    assert first == pack(f"--setup_file={there}/setup.py")
    (here / "robot_steps" / "__init__.py").write_text("def scale(x):\n    return 44 * x\n", encoding="utf-8")
    assert pack(f"--setup_file={here}/setup.py").archive != first.archive


def test_a_module_that_the_project_lost_is_not_shipped_from_an_earlier_build(project: Path) -> None:
    stale = project / "build" / "lib" / "robot_steps"
    stale.mkdir(parents=True)
    (stale / "gone.py").write_text("", encoding="utf-8")
    assert "robot_steps/gone.py" not in names(pack(f"--setup_file={project}/setup.py").archive)


def test_a_project_that_cannot_be_built_is_told_with_what_its_build_said(project: Path) -> None:
    (project / "setup.py").write_text("raise SystemExit('the arm is missing')", encoding="utf-8")
    with pytest.raises(RuntimeError, match=r"(?s)could not build .*project.*no-build-isolation.*the arm is missing"):
        pack(f"--setup_file={project}/setup.py")


def test_requirements_are_read_with_those_that_they_include(tmp_path: Path, project: Path) -> None:
    wheel = tmp_path / "robot.zip"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in project.rglob("*.py"):
            archive.write(path, f"robot/{path.relative_to(project)}")
    (tmp_path / "more.txt").write_text("attrs==25.1 \\\n  --hash=sha256:00\n", encoding="utf-8")
    file = tmp_path / "requirements.txt"
    file.write_text(
        f"# of the robot\n--find-links https://example.org/w\n-r more.txt\nsix>=1 # old\n{wheel}\n", encoding="utf-8"
    )
    packed = pack(f"--requirements_file={file}")
    assert packed.requirements == (
        "--find-links https://example.org/w",
        "attrs==25.1   --hash=sha256:00",
        "six>=1",
    )
    assert packed.holds("robot_steps"), "a package file of this machine is unpacked here, since workers lack it"


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--setup_file=away/setup.py", r"--setup_file=away/setup.py does not exist \(looked in .*\); give the path"),
        ("--setup_file=robot.py", "--setup_file=robot.py is no project file; name the project's setup.py"),
        (
            "--requirements_file=away.txt",
            r"--requirements_file=away.txt does not exist \(looked in .*\); give",
        ),
        ("--extra_package=away.whl", r"--extra_package away.whl is no package file \(looked in .*\); give the path"),
    ],
)
def test_missing_files_are_told_with_option_value_and_remedy(flag: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pack(flag)


@pytest.mark.parametrize("line", ["-c limits.txt", "-e ./robot", "--constraint=limits.txt"])
def test_requirements_that_workers_could_not_read_are_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=f"line '{line}' names a file of this machine, which workers lack; write"):
        pack(f"--requirements_file={file}")


def test_the_main_session_is_packed_with_the_library_that_unpacks_it() -> None:
    packed = pack("--save_main_session")
    assert packed.main_session is not None
    library, dump = pickle.loads(packed.main_session)
    assert library == "default" and dump


def test_a_pickle_library_alone_is_told_to_the_workers() -> None:
    try:
        packed = pack("--pickle_library=dill")
    finally:
        pickler.set_library()
    assert packed.main_session is not None
    assert pickle.loads(packed.main_session) == ("dill", None)


def test_a_package_shipped_alone_takes_in_what_is_installed_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, module in (("driver", "inner/told.py"), ("worker", "kept.py")):
        path = tmp_path / place / "outer" / module
        path.parent.mkdir(parents=True)
        path.write_text(f"PLACE = {place!r}", encoding="utf-8")
        (tmp_path / place / "outer" / "__init__.py").touch()
    (tmp_path / "driver" / "outer" / "inner" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "driver"))
    archive = pack_package("outer.inner")
    assert names(archive) == ["outer/__init__.py", "outer/inner/__init__.py", "outer/inner/told.py"]
    zipfile.ZipFile(io.BytesIO(archive)).extractall(tmp_path / "shipped")
    script = "import outer.inner.told, outer.kept; print(outer.inner.told.PLACE, outer.kept.PLACE)"
    path = os.pathsep.join(str(tmp_path / place) for place in ("shipped", "worker"))
    told = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["driver", "worker"]
