"""The image recipe: pinned, in stages, not root, and fed with what it names."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.infra.kuberay_rules import image_tag
from tests.infra.rendered import KUBERAY, ROOT, render

IMAGE = KUBERAY / "image"
LINES = [
    line
    for line in (IMAGE / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
STAGES = ("cpu", "gpu")


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), f"{path} does not pin by == alone"
    return {
        re.sub(r"[._-]+", "-", name.lower()): version for name, _, version in (line.partition("==") for line in lines)
    }


def instructions(stage: str) -> list[str]:
    """A stage's instructions after its FROM."""
    starts = [number for number, line in enumerate(LINES) if re.fullmatch(rf"FROM \S+ AS {stage}", line)]
    (start,) = starts
    rest = LINES[start + 1 :]
    return rest[: next((number for number, line in enumerate(rest) if line.startswith("FROM")), len(rest))]


def test_the_base_is_named_by_its_digest_and_by_the_python_of_the_project() -> None:
    (base,) = (line for line in LINES if line.startswith("ARG"))
    assert re.fullmatch(r"ARG PYTHON=python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)
    stages = {line.split()[3] for line in LINES if line.startswith("FROM")}
    sources = {line.split()[1] for line in LINES if line.startswith("FROM")}
    assert sources <= stages | {"${PYTHON}"}


@pytest.mark.parametrize("stage", STAGES)
def test_what_runs_is_not_root_and_has_no_build_in_it(stage: str) -> None:
    body = instructions(stage)
    user = render("prod").cluster["headGroupSpec"]["template"]["spec"]["securityContext"]
    assert body[-1] == f"USER {user['runAsUser']}:{user['runAsGroup']}"
    copied = [line for line in body if line.startswith("COPY")]
    assert copied and all(line.startswith("COPY --from=dependencies") for line in copied)


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {
        line[1:]
        for line in (IMAGE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    for line in LINES:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists() and source.rstrip("/") in kept, source
    scripts = [word for line in LINES for word in line.split() if word.startswith("image/") and "." in word]
    assert scripts and all((KUBERAY / script).is_file() for script in scripts)


def test_nothing_is_pinned_to_two_versions() -> None:
    project = pins(ROOT / "requirements.txt")
    for name in ("requirements.txt", "requirements-gpu.txt"):
        both = [(package, pin, project.get(package, pin)) for package, pin in pins(IMAGE / name).items()]
        assert [entry for entry in both if entry[1] != entry[2]] == []


def test_the_commands_that_build_give_the_tag_that_runs() -> None:
    text = (IMAGE / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"--tag (\S+)", text) == [f"demosift:{image_tag()}", f"demosift-gpu:{image_tag()}"]


def test_a_package_that_is_not_pinned_fails_the_build(tmp_path: Path) -> None:
    pip = tmp_path / "pip"
    pip.write_text("#!/bin/sh\nprintf 'Jinja2==3.1.6\\nzope.interface==7.0\\nray==2.60.1\\n'\n", encoding="utf-8")
    pip.chmod(0o755)
    (tmp_path / "pins.txt").write_text("# pins\njinja2==3.1.6\nzope_interface==7.0\nray==2.60.0\n", encoding="utf-8")
    run = subprocess.run(
        ["sh", IMAGE / "all_pinned.sh", tmp_path / "pins.txt"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1 and run.stdout == "ray==2-60-1\n"
    assert "are not pinned; add them to requirements.txt" in run.stderr
