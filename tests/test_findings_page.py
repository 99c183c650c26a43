"""The page of findings names every check and rule that the code can emit, and no other; every stage has its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from transforms.checks import CHECKS
from transforms.episode import Finding, InstructionStatus
from transforms.evidence import Channel, Decision, Evidence, Fingerprint, Outcome
from transforms.select import DEFAULT_RULES, STAGES, Rule, SelectParams, decide

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
FAMILIES = "timestamps|integrity|frames|quality|physics|conventions|metadata|grounding|alignment"
CHECK = re.compile(rf"(?:{FAMILIES})\.[a-z0-9_]+")
OPEN = re.compile(rf"(?:{FAMILIES})\.")
FILES = {"metadata.yaml"}
"""Names of files that read like checks."""
WORD = re.compile(r"[a-z]+(_[a-z]+)*")
PREFIXED = {"metadata_finding": ("metadata.", 0), "_not_run": ("conventions.", 0), "_gripper": ("conventions.", 1)}
"""Functions that put a family before the word they are given, and which argument it is."""


@cache
def trees() -> dict[str, ast.Module]:
    paths = sorted(p for p in (ROOT / "transforms").rglob("*.py") if p.name != "checks.py")
    return {p.relative_to(ROOT).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in paths}


def called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def calls(tree: ast.Module, names: set[str]) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call) and called(node) in names)


def texts(node: ast.AST) -> set[str]:
    """Text constants of an expression, the pieces of f-strings left out."""
    if isinstance(node, ast.JoinedStr):
        return set()
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    return {text for child in ast.iter_child_nodes(node) for text in texts(child)}


def stated(tree: ast.Module) -> set[str]:
    """Checks that stand in the code whole, or as the word given to a function that puts the family before it."""
    found = {text for text in texts(tree) - FILES if CHECK.fullmatch(text)}
    for call in calls(tree, set(PREFIXED)):
        family, place = PREFIXED[called(call)]
        if len(call.args) > place and isinstance(call.args[place], ast.Constant):
            found |= {family + text.replace(".", "_") for text in texts(call.args[place])}
    return found


def built(tree: ast.Module) -> Iterator[re.Pattern[str]]:
    """A pattern for each check that an f-string builds: a hole is filled by a word that its file states."""
    words = "|".join(sorted({re.escape(text.replace(".", "_")) for text in texts(tree) if text}))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and OPEN.match(str(getattr(node.values[0], "value", ""))):
            parts = (re.escape(str(p.value)) if isinstance(p, ast.Constant) else f"(?:{words})" for p in node.values)
            yield re.compile("".join(parts))


def may_be(tree: ast.Module, value: ast.expr) -> set[str]:
    """Words that the rule of a problem may be: a constant, a choice, a variable that one of these is assigned to."""
    if isinstance(value, ast.IfExp):
        return may_be(tree, value.body) | may_be(tree, value.orelse)
    if not isinstance(value, ast.Name):
        return texts(value) if isinstance(value, ast.Constant) else set()
    found: set[str] = set()
    for node in (n for n in ast.walk(tree) if isinstance(n, ast.Assign)):
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id == value.id and not isinstance(node.value, ast.Name):
            found |= may_be(tree, node.value)
        if isinstance(target, ast.Tuple) and getattr(target.elts[0], "id", "") == value.id:
            functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == called(node.value))
            returned = (n.value for function in functions for n in ast.walk(function) if isinstance(n, ast.Return))
            found |= {text for one in returned if isinstance(one, ast.Tuple) for text in may_be(tree, one.elts[0])}
    return found


def rules(tree: ast.Module) -> set[str]:
    """Rules that quarantine: of problems, their exceptions, and dead letters."""
    given = [call.args[0] for call in calls(tree, {"Unreadable", "Problem", "MediaError"})]
    given += [argument for call in calls(tree, {"DeadLetter", "_letter"}) for argument in call.args]
    found = {rule for argument in given for rule in may_be(tree, argument)}
    return {rule for rule in found if WORD.fullmatch(rule)}


def rows(heading: str = "") -> set[str]:
    """Names in the first cells of the tables below a heading, or of the whole page."""
    parts = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE) if part.startswith(heading)]
    cells = [cell for part in parts for cell in re.findall(r"^\| (`[^|]+`) \|", part, flags=re.MULTILINE)]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def checks() -> set[str]:
    return {name for name in rows() if CHECK.fullmatch(name)}


@pytest.mark.parametrize("path", trees())
def test_every_check_of_a_file_is_on_the_page(path: str) -> None:
    missing = stated(trees()[path]) - checks()
    assert not missing, f"{path} emits {sorted(missing)}; add them to docs/findings.md"
    for pattern in built(trees()[path]):
        assert any(map(pattern.fullmatch, checks())), f"{path}: no row of docs/findings.md matches an f-string"


def test_the_page_names_no_check_that_no_stage_emits() -> None:
    known = {name for tree in trees().values() for name in stated(tree)}
    patterns = [pattern for tree in trees().values() for pattern in built(tree)]
    unknown = {name for name in checks() - known if not any(p.fullmatch(name) for p in patterns)}
    assert not unknown, f"docs/findings.md names {sorted(unknown)}, which no stage emits"
    in_text = set(re.findall(rf"`({CHECK.pattern})`", PAGE))
    assert in_text == checks(), f"the text names {sorted(in_text - checks())}, which have no row"


def test_the_names_that_a_rule_may_have_are_those_of_the_page() -> None:
    assert checks() == CHECKS


def test_every_rule_that_quarantines_is_on_the_page_and_no_other() -> None:
    assert rows("Quarantine") == {rule for tree in trees().values() for rule in rules(tree)}


def test_outcomes_statuses_and_channels_are_those_of_the_code() -> None:
    assert rows("Outcomes") == set(get_args(Outcome))
    assert rows("Instruction statuses") == set(get_args(InstructionStatus))
    assert rows("Duplicates") >= {f"duplicate.{channel}" for channel in get_args(Channel)}


def test_default_rules_are_as_the_page_says() -> None:
    told = re.findall(r"^\| `([^`]+)` \|.*\| (max|min) ([0-9.]+) \|$", PAGE, flags=re.MULTILINE)
    assert {name: Rule(**{bound: float(value)}) for name, bound, value in told} == dict(DEFAULT_RULES)


def test_every_stage_that_emits_findings_has_a_place_in_the_order_of_failures() -> None:
    emitted: set[str] = set()
    for tree in trees().values():
        named = {
            node.targets[0].id: texts(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for call in calls(tree, {"Finding", "measured", "not_run", "clock_findings", "rate_findings"}):
            stage = call.args[0] if call.args else None
            if isinstance(stage, ast.Name) and stage.id in named:
                emitted |= named[stage.id]
            elif isinstance(stage, ast.Constant) and not CHECK.fullmatch(str(stage.value)):
                emitted.add(str(stage.value))
    assert emitted == set(STAGES) - {"episode_boundary"}  # cuts, and measures nothing


def test_of_two_failures_the_earlier_stage_decides() -> None:
    late, early = (Finding(stage, f"{stage}.check", 1.0) for stage in ("quality", "instruction_grounding"))
    found = Fingerprint("s/0", "c", "")
    evidence = Evidence("s/0", "s", "file", "c", 2, 1, 8, "staged", found, findings=(late, early))
    limits = {finding.check: Rule(max=0) for finding in (late, early)}
    decided: Decision = decide(evidence, SelectParams(rules=limits))
    assert (decided.outcome, decided.stage) == ("rejected", "instruction_grounding")
