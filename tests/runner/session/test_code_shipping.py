from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
import ray
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner import PipelineLifecycleManager
from beam_pipeline.runner.errors import PipelineFailed
from beam_pipeline.runner.ray_runner import RayRunner
from beam_pipeline.runner.session.code_packing import PackedCode, pack_code
from beam_pipeline.runner.session.code_shipping import ShippedCode, explain_missing_module, ship_code
from beam_pipeline.runner.session.joined_ray import joined
from tests.runner.session.conftest import Cluster, make_project


@pytest.fixture
def robot_steps(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The user's module as the driver imports it: from the folder beside the script."""
    monkeypatch.syspath_prepend(str(project))
    import robot_steps

    yield robot_steps
    for name in ("robot_steps", "robot_units"):
        sys.modules.pop(name, None)


def run(folder: Path, step: Any, *flags: str) -> list[str]:
    """Run a pipeline of three elements; returns what it wrote."""
    folder.mkdir(exist_ok=True)
    with beam.Pipeline(runner=RayRunner(), options=PipelineOptions([*flags, "--ray_workers_max=1"])) as pipeline:
        _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(step) | beam.Map(_touch(str(folder)))
    return sorted(path.name for path in folder.iterdir())


def _touch(folder: str) -> Any:
    # by value: the workers lack this test's module too
    def touch(element: int) -> None:
        import pathlib

        pathlib.Path(folder, str(element)).touch()

    touch.__module__ = "__main__"
    return touch


def test_nothing_is_shipped_within_a_local_ray_unless_an_option_asks() -> None:
    with ship_code(PackedCode(), joined=False) as code:
        assert code == ShippedCode()


def test_what_the_driver_has_is_not_installed_anew_for_a_local_ray() -> None:
    with ship_code(PackedCode(requirements=("numpy>=1",), declared=("ray",)), joined=False) as code:
        assert code == ShippedCode()
    with ship_code(PackedCode(requirements=("no-such-package==1",)), joined=False) as code:
        assert code.runtime_env["pip"]["packages"] == ["no-such-package==1"]


def test_workers_that_lack_the_project_run_it_from_the_setup_file(
    cluster: Cluster, with_token: None, tmp_path: Path, project: Path, robot_steps: Any
) -> None:
    flags = [f"--ray_address={cluster.address}"]
    with PipelineLifecycleManager():
        with pytest.raises(PipelineFailed, match=r"no module 'robot_steps'; ship .* --setup_file ./setup.py"):
            run(tmp_path / "without", robot_steps.scale, *flags)
        found = run(tmp_path / "with", robot_steps.scale, *flags, f"--setup_file={project}/setup.py")
    assert found == ["3", "6", "9"]


def test_code_is_known_by_its_content_and_workers_get_runner_project_and_requirements(
    cluster: Cluster, with_token: None, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    _wheel(wheels, "gripper_units")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"--no-index\n--find-links {wheels}\ngripper-units==1.0\n", encoding="utf-8")

    def packed(name: str, *flags: str, factor: int = 3) -> PackedCode:
        folder = make_project(tmp_path / name, factor, requires="numpy>=1")
        return pack_code(PipelineOptions([f"--setup_file={folder}/setup.py", *flags]))

    with (
        joined(cluster.address),
        ship_code(packed("one"), joined=True) as one,
        ship_code(packed("same"), joined=True) as same,
        ship_code(packed("other", factor=4), joined=True) as other,
        ship_code(packed("more", f"--requirements_file={requirements}"), joined=True) as more,
    ):
        assert one == same
        assert len({one.key, other.key, more.key}) == 3
        assert "pip" not in one.runtime_env, "numpy is there, so that no environment is made for it"
        found = ray.get(ray.remote(_look).options(runtime_env=dict(more.runtime_env)).remote())
    assert found == (6, 360, "gripper", True)


def test_a_requirement_that_cannot_be_installed_fails_the_job_and_says_what_pip_said(
    cluster: Cluster, with_token: None, tmp_path: Path
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("--no-index\nno-such-package==1\n", encoding="utf-8")
    with pytest.raises(Exception, match=r"(?s)no-such-package==1"):
        run(tmp_path / "out", abs, f"--ray_address={cluster.address}", f"--requirements_file={requirements}")


def test_the_main_session_reaches_the_workers(cluster: Cluster, with_token: None, tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(_MAIN, encoding="utf-8")
    flags = [f"--ray_address={cluster.address}", "--save_main_session", "--pickle_library=dill_unsafe"]
    done = subprocess.run(
        [sys.executable, script, *flags, tmp_path],
        capture_output=True,
        text=True,
        # of this process only ray_constants is patched
        env={**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
    )
    assert (tmp_path / "7").exists(), done.stderr[-2000:]


def test_only_missing_modules_are_explained() -> None:
    assert explain_missing_module(ValueError("x")) is None
    try:
        try:
            import no_such_module  # noqa: F401
        except ImportError as error:
            raise RuntimeError("could not load") from error
    except RuntimeError as error:
        told = explain_missing_module(error)
    assert told and told.startswith("the worker's environment has no module 'no_such_module'; ship")


def _look() -> tuple[int, int, str, bool]:
    import gripper_units
    import robot_steps
    import robot_units

    import beam_pipeline.runner.blocks

    shipped = "py_modules_files" in beam_pipeline.runner.blocks.__file__
    return robot_steps.scale(2), robot_units.DEGREES, gripper_units.NAME, shipped


_look.__module__ = "__main__"

_MAIN = """
import pathlib
import sys
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from beam_pipeline.runner.ray_runner import RayRunner

BASE = 4
*FLAGS, FOLDER = sys.argv[1:]

def plus(element):
    pathlib.Path(FOLDER, str(element + BASE)).touch()

if __name__ == "__main__":
    with beam.Pipeline(runner=RayRunner(), options=PipelineOptions(FLAGS)) as pipeline:
        pipeline | beam.Create([3]) | beam.Map(plus)
"""


def _wheel(folder: Path, name: str) -> None:
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "NAME = 'gripper'\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
