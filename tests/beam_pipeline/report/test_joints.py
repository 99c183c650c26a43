"""The page's joint ranges against the raw positions, read by themselves, and against the limits of a URDF."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.__main__ import main
from tests.beam_pipeline.report.page_reader import Page, read_page, rows_of
from tests.factories import motion, rlds_example, write_rlds
from tests.job import Job, run_job

HOSTILE = "j<b>&amp;7"
NAMES = ["j1", "j2", "j3", "j4", "j5", "j6", HOSTILE]
LOW = [-1.0, -2.0, -1.0, -3.0, -1.0, 1.0, None]
HIGH = [1.0, 1.0, 1.0, -1.0, 1.0, 2.05, None]
SOURCES = """
  - {name: bounded, path: bounded, embodiment: panda}
  - {name: free, path: free, embodiment: unknown_robot}
  - {name: degrees, path: degrees, embodiment: servo}
  - {name: bare, path: bare}
  - {name: lost, path: lost, embodiment: panda}"""
JOINTS = f"""
    rate_hz: 20
    joints:
      names: {json.dumps(NAMES)}
      position: {{column: observation.state, start: 0, end: 7}}"""
EMBODIMENTS = f"""
  panda:
    urdf: robot.urdf{JOINTS}
      unit: rad
  unknown_robot:{JOINTS}
      unit: rad
  servo:{JOINTS}"""
RULES = "\nselect: {rules: {physics.position_excess: null, physics.velocity_ratio: null}}"


def urdf() -> str:
    """Seven joints; the last is continuous and has no limits, the sixth is narrower than the motion."""
    joints = []
    for name, low, high in zip(NAMES, LOW, HIGH, strict=True):
        text = name.replace("&", "&amp;").replace("<", "&lt;")
        kind = "continuous" if low is None else "revolute"
        bounds = "" if low is None else f'lower="{low}" upper="{high}" '
        joints.append(f'<joint name="{text}" type="{kind}"><limit {bounds}velocity="2.0" effort="1"/></joint>')
    return f'<robot name="r">{"".join(joints)}</robot>'


@pytest.fixture(scope="module")
def motions() -> dict[str, list[np.ndarray]]:
    return {
        "bounded": [motion(1), motion(2)],
        "free": [motion(3)],
        "degrees": [motion(4)],
        "bare": [motion(5)],
        "lost": [np.full((40, 7), np.nan, "f4")],
    }


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, motions: dict[str, list[np.ndarray]]) -> Job:
    root = tmp_path_factory.mktemp("joints")
    (root / "robot.urdf").write_text(urdf(), encoding="utf-8")
    for place, found in motions.items():
        write_rlds(root / place, [[rlds_example(i, states=q) for i, q in enumerate(found)]])
    job = run_job(root, SOURCES, RULES, embodiments=EMBODIMENTS)
    assert job.status == 0
    return job


@pytest.fixture(scope="module")
def page(job: Job) -> Page:
    return read_page(job.output / "report.html")


def tables(path: Path) -> dict[str, str]:
    """Title -> text of each table of the section, in order."""
    section = re.search(r'<section id="joints">(.*?)</section>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert section is not None
    found = {}
    for card in re.findall(r'<article class="card">(.*?)</article>', section[1], re.DOTALL):
        title, text = Page(), Page()
        title.feed(card.partition("</h3>")[0])
        text.feed(card)
        found[title.text.strip()] = text.text
    return found


def test_ranges_are_those_of_the_raw_transitions(job: Job, motions: dict[str, list[np.ndarray]]) -> None:
    rows = [row for row in rows_of(job.output / "report.html", "joints") if row[0] in NAMES]
    assert [row[0] for row in rows] == NAMES * 2, "one table of the bounded robot, one of the free one"
    for source, own in (("bounded", rows[:7]), ("free", rows[7:])):
        raw = np.concatenate([q[:-1] for q in motions[source]]).astype(float)  # the last step begins no transition
        for joint, row in enumerate(own):
            values = raw[:, joint]
            shown = [float(cell) for cell in row[2:6]]
            wanted = [values.min(), *np.quantile(values, [0.01, 0.99]), values.max()]
            np.testing.assert_allclose(shown, wanted, rtol=0.02, atol=2e-3)
            assert shown[0] == float(f"{values.min():.3g}") and shown[3] == float(f"{values.max():.3g}")


def test_limits_are_those_of_the_urdf_and_what_leaves_them_is_said(
    job: Job, motions: dict[str, list[np.ndarray]]
) -> None:
    found = tables(job.output / "report.html")
    raw = np.concatenate([q[:-1] for q in motions["bounded"]]).astype(float)
    rooms = [
        None if low is None else min(v.min() - low, high - v.max())
        for v, low, high in zip(raw.T, LOW, HIGH, strict=True)
    ]
    beyond = [name for name, room in zip(NAMES, rooms, strict=True) if room is not None and room < 0]
    assert beyond == ["j6"]
    assert next(iter(found)) == "bounded position, rad, embodiment panda", "what leaves its limits comes first"
    text = found["bounded position, rad, embodiment panda"]
    assert "1 of 7 joints leave their limits in robot.urdf ." in text
    rows = [row for row in rows_of(job.output / "report.html", "joints") if row[0] in NAMES][:7]
    for row, low, high, room in zip(rows, LOW, HIGH, rooms, strict=True):
        assert row[6] == ("none" if low is None else f"{low:g} to {high:g}")
        assert row[7] == ("" if room is None else f"{room:.2g}")
    html = (job.output / "report.html").read_text(encoding="utf-8")
    section = html.partition('<section id="joints">')[2].partition("</section>")[0]
    assert section.count('class="rejected"') == 1 and section.count('class="allowed"') == 6


def test_speed_is_the_largest_of_the_kept_by_differences(
    job: Job, page: Page, motions: dict[str, list[np.ndarray]]
) -> None:
    """By hand: |dq| * 20 Hz over 1.1 x 2 rad/s, the lesser of two steps that follow each other."""
    ratios = []
    for q in motions["bounded"]:
        speed = np.abs(np.diff(q[:-1].astype(float), axis=0)) * 20 / (1.1 * 2.0)
        ratios.append(np.minimum(speed[1:], speed[:-1]).max())
    found = re.search(r"at most ([\d.]+) of what is allowed", page.section("joints"))
    assert found is not None and float(found[1]) == pytest.approx(max(ratios), rel=6e-3)


def test_what_cannot_be_drawn_or_checked_says_why(job: Job) -> None:
    found = tables(job.output / "report.html")
    assert (
        "no `urdf` is configured for embodiment 'unknown_robot' : limits were not checked"
        in (found["free position, rad, embodiment unknown_robot"])
    )
    assert (
        "No ranges: `joints.unit` of embodiment 'servo' is not declared"
        in (found["degrees position, rad, embodiment servo"])
    )
    assert "No ranges: no `embodiment` is declared" in found["bare position, rad"]
    assert (
        "No ranges: no kept transition has observation.joint_position"
        in (found["lost position, rad, embodiment panda"])
    )


def test_a_joint_name_is_text(job: Job, page: Page) -> None:
    assert HOSTILE in page.section("joints")
    assert "j<b>" not in (job.output / "report.html").read_text(encoding="utf-8")


def test_drawn_anew_without_the_urdf_it_is_the_same(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    before = (job.output / "report.html").read_bytes()
    urdf_file = job.output.parent / "robot.urdf"
    kept = urdf_file.read_text(encoding="utf-8")
    urdf_file.unlink()
    try:
        assert main(["report", "--output", str(job.output)]) == 0
        assert (job.output / "report.html").read_bytes() == before
    finally:
        urdf_file.write_text(kept, encoding="utf-8")


def test_the_summary_of_an_earlier_version_has_a_page(job: Job, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(job.output, copy)
    summary = json.loads((copy / "run_summary.json").read_text(encoding="utf-8"))
    del summary["joints"]
    (copy / "run_summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert main(["report", "--output", str(copy)]) == 0
    assert "says nothing of joints: it is of an earlier version" in read_page(copy / "report.html").section("joints")
