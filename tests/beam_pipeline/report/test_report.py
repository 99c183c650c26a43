"""The page of a run with hostile names and texts, read by html.parser and Chromium, against the ledger in DuckDB."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from beam_pipeline.__main__ import main
from tests.beam_pipeline.report.page_reader import Page, read_page, rows_of
from tests.factories import jpeg, motion, rlds_example, write_isaac, write_rlds, write_video
from tests.job import Job, run_job

SCRIPT = "<script>alert(1)</script>"
HOSTILE_FILE = "a\"><img src=x onerror=alert(2)> '&amp;\u202etxt"
HOSTILE_SOURCE = '"><svg onload>&amp;'
SOURCES = f"""
  - {{name: arm, path: rlds, embodiment: panda}}
  - {{name: '{HOSTILE_SOURCE}', path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: isaac}}
  - {{name: filmed, path: video, embodiment: panda}}"""
EMBODIMENTS = """
  panda: {rate_hz: 20}
  isaac:
    rate_hz: 20
    joints:
      names: [j1, j2, j3, j4, j5, j6, j7]
      position: {column: states.articulation.robot.joint_position, start: 0, end: 7}
      unit: rad"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five RLDS episodes (one has NaN, one is a copy, one is cut off), three demos in a hostile file, one video."""
    root = tmp_path_factory.mktemp("report")
    broken = motion(3)
    broken[20, 2] = np.nan
    episodes = [
        rlds_example(1, instruction=f"pick up {SCRIPT}"),
        rlds_example(2),
        rlds_example(3, states=broken),
        rlds_example(2),
        rlds_example(5),
    ]
    (shard,) = write_rlds(root / "rlds", [episodes])
    shard.write_bytes(shard.read_bytes()[:-50])
    write_isaac(root / f"isaac/{HOSTILE_FILE}.hdf5", {i: motion(10 + i) for i in range(3)})
    write_video(root / "video/clip.mp4", 40)
    return root


@pytest.fixture(scope="module")
def job(folder: Path) -> Job:
    job = run_job(folder, SOURCES, embodiments=EMBODIMENTS)
    assert job.status == 0
    return job


@pytest.fixture(scope="module")
def page(job: Job) -> Page:
    return read_page(job.output / "report.html")


def test_the_run_has_one_of_each_outcome(job: Job) -> None:
    assert Counter(job.outcomes().values()) == {"kept": 6, "rejected": 1, "duplicate": 1, "quarantined": 1}


def test_every_count_of_the_ledger_is_on_the_page(job: Job, page: Page) -> None:
    found = {row[0]: row for row in rows_of(job.output / "report.html", "outcomes")}
    for source in (HOSTILE_SOURCE, "arm", "filmed"):
        of_source = Counter(row["outcome"] for row in job.ledger.values() if row["source"] == source)
        planned = sum(of_source.values())
        counts = [of_source[name] for name in ("kept", "rejected", "duplicate", "quarantined", "cut")]
        assert found[source][2:9] == [str(n) for n in (planned, 0, *counts)]
    assert found["all"][2:9] == ["9", "0", "6", "1", "1", "1", "0"]
    assert "The ledger adds up: 9 inputs have exactly one outcome each, 9 in all." in page.section("outcomes")
    assert page.texts[page.texts.index("6 of 9 episodes kept (66.7 %)")]
    rules = Counter((row["outcome"], row["rule"]) for row in job.ledger.values() if row["outcome"] != "kept")
    reasons = {tuple(row[0].split()): row for row in rows_of(job.output / "report.html", "reasons")[1:]}
    assert {rule: int(reasons[rule][1]) for rule in rules} == dict(rules) and len(reasons) == len(rules)


def test_what_was_lost_is_told_with_value_limit_and_place(job: Job, page: Page) -> None:
    (rejected,) = [row for row in job.ledger.values() if row["outcome"] == "rejected"]
    shown = page.section("rejected")
    assert rejected["episode_id"] in shown and re.search(
        rf"integrity\.nan {rejected['value']:g} count ?, limit 0 ?, (steps 19 to|step) 20", shown
    )
    (lost,) = [row for row in job.ledger.values() if row["outcome"] == "quarantined"]
    assert lost["uri"] in page.section("quarantined") and lost["detail"] in page.section("quarantined")
    (member,) = [row for row in job.ledger.values() if row["outcome"] == "duplicate"]
    pair = page.section("duplicates")
    assert member["episode_id"] in pair and member["duplicate_of"] in pair and "duplicate.exact similarity 1" in pair


def test_hostile_texts_are_text(job: Job, page: Page) -> None:
    visible = HOSTILE_FILE.replace("\u202e", "\\u202e")
    assert f"pick up {SCRIPT}" in page.section("instructions")
    assert f"{HOSTILE_SOURCE}/{visible}/000000" in page.section("kept")
    assert HOSTILE_SOURCE in page.section("outcomes")
    assert "\u202e" not in (job.output / "report.html").read_text(encoding="utf-8")
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "embed", "link", "form", "base"}
    handlers = [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert handlers == []


def test_nothing_is_asked_of_the_network_and_every_link_leads_somewhere(page: Page) -> None:
    sources = page.attributes("src")
    assert sources and all(source.startswith("data:image/jpeg;base64,") for source in sources)
    identities = page.attributes("id")
    assert len(identities) == len(set(identities))
    assert {link.removeprefix("#") for link in page.attributes("href")} <= set(identities)
    assert not re.search(r"https?:|@import|url\((?!#)", page.style)
    assert all(
        "http" not in value for _, attributes in page.tags for value in attributes.values() if value[:4] != "data"
    )
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def pictures(path: Path) -> dict[tuple[str, str], Image.Image]:
    """(episode id, alternative text) -> picture, as a person would see them in the cards."""
    found = {}
    for card in re.findall(r'<article class="card">(.*?)</article>', path.read_text(encoding="utf-8"), re.DOTALL):
        name = re.search(r'<bdi class="id">(.*?)</bdi>', card)
        for text, data in re.findall(r'<img alt="(.*?)" src="data:image/jpeg;base64,(.*?)"', card):
            assert name is not None
            found[name[1], text] = Image.open(io.BytesIO(base64.b64decode(data)))
    return found


def test_pictures_are_those_of_the_steps_that_they_name(job: Job) -> None:
    shown = pictures(job.output / "report.html")
    rejected = {text: image for (name, text), image in shown.items() if name == "arm/train/000002"}
    assert len(rejected) == 6, "a rejected episode is shown from the staging area"
    for text, image in rejected.items():
        step = int(text.removeprefix("image at step "))
        raw = Image.open(io.BytesIO(jpeg(1000 * 3 + step)))
        assert np.abs(np.asarray(raw, float) - np.asarray(image, float)).mean() < 8
        other = Image.open(io.BytesIO(jpeg(1000 * 3 + (step + 1) % 40)))
        assert np.abs(np.asarray(other, float) - np.asarray(image, float)).mean() > 20
    assert any(text.startswith("clip") or "at step" in text for name, text in shown if name.startswith("filmed"))


def test_drawing_it_anew_gives_the_same_bytes(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (job.output / name).read_bytes() for name in ("report.html", "report_frames.parquet")}
    assert main(["report", "--output", str(job.output)]) == 0
    assert f"report: {job.output / 'report.html'}" in capsys.readouterr().out
    assert {name: (job.output / name).read_bytes() for name in before} == before


def test_a_folder_without_stored_pictures_shows_what_the_tables_hold(job: Job, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(job.output, copy)
    (copy / "report_frames.parquet").unlink()
    assert main(["report", "--output", str(copy)]) == 0
    assert "frames not stored" in read_page(copy / "report.html").section("rejected")
    stored, anew = pictures(job.output / "report.html"), pictures(copy / "report.html")
    kept = {key for key in stored if job.outcomes().get(key[0]) == "kept"}
    assert kept and kept <= set(anew)
    for key in kept:
        assert np.array_equal(np.asarray(stored[key]), np.asarray(anew[key])), key


def test_a_second_run_tells_the_same_but_for_its_times(folder: Path, job: Job) -> None:
    again = run_job(folder, SOURCES, embodiments=EMBODIMENTS, output="again")
    pages = [(path / "report.html").read_text(encoding="utf-8") for path in (job.output, again.output)]
    first, second = (re.sub(r"Run of .*? on DirectRunner, [\d.]+ s,", "", text) for text in pages)
    assert first == second
    frames = [(path / "report_frames.parquet").read_bytes() for path in (job.output, again.output)]
    assert frames[0] == frames[1]


def test_a_failed_gate_leaves_a_report_that_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = "\ngates: {max_rejected_fraction: 0.0}"
    assert run_job(folder, SOURCES, gates, embodiments=EMBODIMENTS, output="gated").status == 3
    place = folder / "gated/_staging/report.html"
    assert str(place) in capsys.readouterr().out and not (folder / "gated/report.html").exists()
    assert "A gate failed and nothing was published." in read_page(place).text
    assert "max_rejected_fraction is" in read_page(place).text


def test_a_run_that_could_read_nothing_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "isaac").mkdir()
    (tmp_path / "isaac/a.hdf5").write_bytes(b"not one")
    job = run_job(tmp_path, "  - {name: i, path: isaac/a.hdf5, format: isaac_hdf5, embodiment: panda}")
    page = read_page(job.output / "report.html")
    assert job.outcomes() and set(job.outcomes().values()) == {"quarantined"}
    assert "0 of 1 episodes kept (0 %)" in page.text and "Nothing was kept." in page.section("kept")


def test_the_command_names_what_it_cannot_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--output", str(tmp_path)]) == 2
    assert "holds no published run" in capsys.readouterr().err
    assert main(["report", "--outptu", str(tmp_path)]) == 2
    assert "--output" in capsys.readouterr().err


def test_a_damaged_summary_or_picture_file_is_named(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(job.output, copy)
    (copy / "report_frames.parquet").write_bytes(b"PAR1 no")
    assert main(["report", "--output", str(copy)]) == 2
    assert "report_frames.parquet is damaged" in capsys.readouterr().err
    (copy / "report_frames.parquet").unlink()
    (copy / "run_summary.json").write_text("{")
    assert main(["report", "--output", str(copy)]) == 2
    assert "run_summary.json is damaged" in capsys.readouterr().err
    (copy / "run_summary.json").unlink()
    assert main(["report", "--output", str(copy)]) == 2
    assert "run_summary.json is gone" in capsys.readouterr().err


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def chromium(profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Headless Chromium on a profile of its own."""
    assert CHROMIUM is not None
    common = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}")
    return subprocess.run([CHROMIUM, *common, *flags], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
def test_a_browser_renders_it_without_a_word_in_the_console(job: Job, tmp_path: Path) -> None:
    place = (job.output / "report.html").as_uri()
    logging = ("--enable-logging=stderr", "--v=0")
    shown = chromium(tmp_path / "a", "--dump-dom", *logging, place)
    assert shown.returncode == 0
    assert "6 of 9 episodes kept" in shown.stdout and SCRIPT.replace("<", "&lt;").replace(">", "&gt;") in shown.stdout
    assert "alert(1)" not in re.sub(r"&lt;script&gt;alert\(1\)&lt;/script&gt;", "", shown.stdout)
    assert "CONSOLE" not in shown.stderr, shown.stderr
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(
        (job.output / "report.html").read_text(encoding="utf-8").replace("<main>", '<main><img src="x.png">')
    )
    assert "CONSOLE" in chromium(tmp_path / "b", "--dump-dom", *logging, spoilt.as_uri()).stderr, "the test sees errors"


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("width", [400, 1280])
def test_it_is_not_wider_than_the_window(job: Job, tmp_path: Path, width: int) -> None:
    """A copy whose title is set to its width by a script of the test's own."""
    source = (job.output / "report.html").read_text(encoding="utf-8")
    source = re.sub(r'<meta http-equiv="Content-Security-Policy".*?>', "", source)
    script = "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth</script></body>"
    probe = tmp_path / "probe.html"
    probe.write_text(source.replace("</body>", script), encoding="utf-8")
    # the window of headless Chromium is at least 500 px wide; a frame in it is as narrow as it is told
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="probe.html" style="border:0;width:{width}px;height:800px"></iframe><script>'
        "f.onload = () => { document.title = f.contentDocument.title }</script>"
    )
    shown = chromium(tmp_path / "c", "--dump-dom", "--allow-file-access-from-files", frame.as_uri())
    found = re.search(r"<title>(\d+) of (\d+)</title>", shown.stdout)
    assert found is not None, shown.stdout[-500:]
    assert int(found[2]) == width and int(found[1]) <= width
