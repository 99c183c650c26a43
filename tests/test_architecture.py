"""The house rules that a reader cannot see in one file: which way imports point, how long a file may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("beam_pipeline", "transforms", "airflow_dags", "examples", "benchmarks", "infra")
STAGES = {
    "temporal_alignment",
    "episode_boundary",
    "transition_alignment",
    "instruction_grounding",
    "quality",
    "physics",
}
HEAVY = {"ray", "torch", "cupy", "tensorflow"}
MAY_IMPORT_RAY = ("beam_pipeline/runner/", "beam_pipeline/metrics.py", "transforms/ray_source.py", "benchmarks/")


def python_files() -> list[Path]:
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import at line {node.lineno}; imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for module in imports(path):
        root = module.split(".")[0]
        if name.startswith("transforms/"):
            assert root != "beam_pipeline", f"{name} imports {module}: transforms never import beam_pipeline"
        if name.startswith("beam_pipeline/runner/"):
            inside = module.startswith("beam_pipeline.runner")
            assert root not in PACKAGES or inside, f"{name} imports {module}: the runner stands alone"
        if name.startswith("airflow_dags/"):
            assert root not in ("beam_pipeline", "transforms"), f"{name} imports {module}: DAGs launch the command"
        if name.startswith("transforms/handlers/"):
            assert module.removeprefix("transforms.") not in STAGES, f"{name} imports {module}: handlers know no stage"
        if path.stem in STAGES and name.startswith("transforms/"):
            other = module.removeprefix("transforms.").split(".")[0]
            assert other not in STAGES, f"{name} imports {module}: stages never import each other"
        if root == "ray":
            assert name.startswith(MAY_IMPORT_RAY), f"{name} imports ray; only the runner and the Ray edges may"


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_where_used(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name.startswith(MAY_IMPORT_RAY):
        return
    loaded = {module.split(".")[0] for module in imports(path, top_level_only=True)}
    assert not loaded & HEAVY, f"{name} imports {loaded & HEAVY} at its top"


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines; split it by concept at 300"


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_frame_catches_broadly(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            )
            assert not broad or path.name == "stage.py", f"{path.relative_to(ROOT)}:{node.lineno} catches everything"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_no_benchmark_hides_a_standard_module(path: Path) -> None:
    hidden = path.stem in sys.stdlib_module_names
    assert not hidden, f"benchmarks/{path.name}: an arm that is run by its path would import it for {path.stem}"
