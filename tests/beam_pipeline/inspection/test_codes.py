"""The registry of codes: the page shows it, every check and rule of the readers has a code of its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from beam_pipeline.inspection.code import OTHER
from beam_pipeline.inspection.codes import CODES, by_key, code_of
from beam_pipeline.inspection.page import render
from transforms.checks import CHECKS

ROOT = Path(__file__).parents[3]
FROM_LOADING = re.compile(r"metadata\..*|timestamps\.(absent|start_offset)|integrity\.(camera_absent|video_unreadable)")
OF_VERDICTS = "metadata.verdict_without_episode"
"""Is about a person's file, not about recordings."""
NOT_AT_PLANNING = {"required_missing"}
"""Rules about what a configuration asks for: inspection asks for nothing."""


def rules() -> set[str]:
    """First arguments of Problem(...) and Unreadable(...) in the readers and the loader."""
    found = set()
    for path in [
        *(ROOT / "transforms/sources").glob("*.py"),
        ROOT / "transforms/loader.py",
        ROOT / "transforms/formats.py",
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called in ("Problem", "Unreadable") and isinstance(node, ast.Call) and node.args:
                found |= {
                    n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                }
    return found


def test_the_page_is_what_the_registry_renders() -> None:
    assert (ROOT / "docs/inspect.md").read_text(encoding="utf-8") == render(), (
        "run: python -m beam_pipeline.inspection.page > docs/inspect.md"
    )


def test_codes_are_unique_ordered_and_of_one_form() -> None:
    names = [code.code for code in CODES]
    assert names == sorted(set(names)) and all(re.fullmatch(r"DATA-\d{3}", name) for name in names)
    assert len(by_key()) == sum(len(code.keys) for code in CODES)
    assert all(code.meaning and code.remedy for code in CODES)


def test_every_check_of_loading_has_a_code_of_its_own() -> None:
    checks = {check for check in CHECKS if FROM_LOADING.fullmatch(check)} - {OF_VERDICTS}
    assert len(checks) > 40
    assert {check for check in checks if code_of(check).keys == (OTHER,)} == set()


def test_every_rule_of_the_readers_has_a_code_of_its_own() -> None:
    found = rules() - NOT_AT_PLANNING
    assert {"truncated", "declared_absent", "absurd_size"} <= found
    assert {rule for rule in found if code_of(rule).keys == (OTHER,)} == set()


def test_what_has_no_code_is_reported_as_another_finding() -> None:
    assert code_of("metadata.from_the_future").code == "DATA-900"
