"""The two halves of curate: the same bytes, thresholds without raw data, verdicts that hold, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.output_folder import FRAMES
from tests.factories import motion, rlds_example, write_isaac, write_rlds, write_video
from tests.job import digests, read_ledger, write_config

SOURCES = """\
  - {name: r, path: rlds, embodiment: panda}
  - {name: i, path: isaac, format: isaac_hdf5, embodiment: arm}
  - {name: v, path: video, embodiment: panda}"""
EMBODIMENTS = """
  panda:
    rate_hz: 20
  arm:
    rate_hz: 20
    joints:
      names: [j1, j2, j3, j4, j5, j6, j7]
      position: {column: states.articulation.robot.joint_position, start: 0, end: 7}
      unit: rad
"""
STRICT = "\nselect: {rules: {quality.ldlj: {min: 0}}}"
"""Of these sources only the arm's episodes have declared joints, so only they are measured by it: all are below 0."""


def write_inputs(folder: Path) -> None:
    """Three formats; one episode with NaN, one exact copy, one cut recording with a video, one truncated shard."""
    paths = write_rlds(
        folder / "rlds", [[rlds_example(seed) for seed in (1, 2, 3)], [rlds_example(1), rlds_example(4)]]
    )
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    bad = motion(6)
    bad[5] = np.nan
    write_isaac(folder / "isaac/a.hdf5", {0: motion(5), 1: bad, 2: motion(7)})
    write_video(folder / "video/v.mp4", 60)
    (folder / "video/v.json").write_text('{"episodes": [{"start": 0, "end": 1.4}, {"start": 1.6, "end": 2.9}]}')
    times = np.arange(60) / 20.0
    lines = ["timestamp,x,y"] + [f"{t:.3f},{np.sin(t):.5f},{np.cos(t):.5f}" for t in times]
    (folder / "video/v.csv").write_text("\n".join(lines) + "\n")


def tables(output: Path) -> dict[str, str]:
    """Every published file but the report's pictures: of what is not kept, only the run that measured has them."""
    return {name: digest for name, digest in digests(output).items() if name != FRAMES}


def command(name: str, config: Path, output: Path, *flags: str) -> int:
    return main([name, "--config", str(config), "--output", str(output), *flags])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("halves")
    write_inputs(folder)
    write_config(folder, SOURCES, embodiments=EMBODIMENTS)
    (folder / "job.yaml").rename(folder / "loose.yaml")
    write_config(folder, SOURCES, STRICT, embodiments=EMBODIMENTS)
    (folder / "job.yaml").rename(folder / "strict.yaml")
    return folder


@pytest.fixture(scope="module")
def curated(inputs: Path) -> Path:
    assert command("curate", inputs / "loose.yaml", inputs / "curated") == 0
    return inputs / "curated"


@pytest.fixture(scope="module")
def strict(inputs: Path) -> Path:
    assert command("curate", inputs / "strict.yaml", inputs / "strict") == 0
    return inputs / "strict"


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def outcomes(output: Path) -> dict[str, str]:
    return {name: row["outcome"] for name, row in read_ledger(output).items()}


def test_the_halves_give_the_bytes_of_the_whole(inputs: Path, curated: Path) -> None:
    output = inputs / "halves"
    for source in "vir":
        assert command("evidence", inputs / "loose.yaml", output, "--source", source) == 0
    assert not (output / "ledger").exists(), "evidence publishes nothing"
    assert command("decide", inputs / "loose.yaml", output) == 0
    assert tables(output) == tables(curated)
    kept = sorted(name for name, outcome in outcomes(curated).items() if outcome == "kept")
    assert kept == [
        "i/a/000000",
        "i/a/000002",
        "r/train/000000",
        "r/train/000001",
        "r/train/000002",
        "v/v/0",
        "v/v/1600000000",
    ]
    assert any("/videos/" in f"/{name}" for name in tables(output))


def test_deciding_anew_gives_what_curating_so_gives(inputs: Path, curated: Path, strict: Path, tmp_path: Path) -> None:
    fewer = copy(curated, tmp_path / "fewer")
    assert command("decide", inputs / "strict.yaml", fewer) == 0
    assert tables(fewer) == tables(strict)
    assert outcomes(fewer) != outcomes(curated)
    more = copy(strict, tmp_path / "more")
    assert command("decide", inputs / "loose.yaml", more) == 0
    assert tables(more) == tables(curated)


def test_only_what_is_newly_kept_is_read(inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    shutil.copytree(inputs, folder, ignore=shutil.ignore_patterns("curated", "strict", "halves"))
    output = tmp_path / "out"
    assert command("curate", folder / "loose.yaml", output) == 0
    before = tables(output)
    shutil.move(folder / "isaac", folder / "away")
    assert command("decide", folder / "strict.yaml", output) == 0, "fewer are kept: no raw data is asked for"
    strict = tables(output)
    assert {o for n, o in outcomes(output).items() if n.startswith("i/")} == {"rejected"}
    assert command("decide", folder / "loose.yaml", output) == 1
    said = capsys.readouterr().err
    assert "2 of 2 newly kept episodes cannot be read again" in said
    assert f"i/a/000000: source 'i' is gone, there is nothing at {folder / 'isaac'}" in said
    assert tables(output) == strict, "nothing is half-published"
    shutil.move(folder / "away", folder / "isaac")
    assert command("decide", folder / "loose.yaml", output) == 0
    assert tables(output) == before


def test_a_recording_that_changed_is_not_mixed_in(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(inputs, folder, ignore=shutil.ignore_patterns("curated", "strict", "halves"))
    assert command("evidence", folder / "loose.yaml", tmp_path / "out") == 0
    write_isaac(folder / "isaac/a.hdf5", {0: motion(50), 1: motion(51), 2: motion(7)})
    assert command("decide", folder / "loose.yaml", tmp_path / "out") == 1
    assert "i/a/000000: its content changed since it was measured; run `evidence --source i`" in capsys.readouterr().err
    assert not (tmp_path / "out/ledger").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate_hz: 20", "rate_hz: 10", "embodiments.panda.rate_hz was 20.0, is 10.0"),
        ("unit: rad", "unit: deg", 'embodiments.arm.joints.unit was "rad", is "deg"'),
        ("select:", "quality: {max_lag_steps: 3}\nselect:", "quality.max_lag_steps was 10, is 3"),
        ("path: rlds", "path: isaac", 'source.path was "rlds", is "isaac"'),
    ],
)
def test_other_measuring_is_refused_by_what_differs(
    inputs: Path, curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    other = inputs / "other.yaml"
    other.write_text((inputs / "strict.yaml").read_text().replace(old, new))
    before = tables(curated)
    assert command("decide", other, curated) == 2
    said = capsys.readouterr().err
    assert message in said and "measure it anew with `evidence --source" in said
    assert command("curate", other, curated) == 2
    assert message in capsys.readouterr().err
    assert tables(curated) == before


URDF = """<robot name="r"><joint name="j1" type="revolute"><limit lower="-2" upper="2" velocity="3"/></joint></robot>"""


def test_a_urdf_whose_content_changed_is_another_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two robots of one URDF, measured; then its limit narrows, so that what was kept breaks it."""
    for name in "ab":
        write_isaac(tmp_path / f"{name}.hdf5", {0: motion(5), 1: motion(7)})
    urdf = tmp_path / "robot.urdf"
    urdf.write_text(URDF)
    sources = "\n".join(f"  - {{name: {n}, path: {n}.hdf5, format: isaac_hdf5, embodiment: arm}}" for n in "ab")
    column = "{column: states.articulation.robot.joint_position, start: 0, end: 1}"
    arm = (
        f"\n  arm:\n    rate_hz: 20\n    urdf: robot.urdf\n    joints: {{names: [j1], position: {column}, unit: rad}}\n"
    )
    config = write_config(tmp_path, sources, embodiments=arm)
    output = tmp_path / "out"
    assert command("curate", config, output) == 0
    assert command("decide", config, output) == 0
    kept = [name for name, outcome in outcomes(output).items() if outcome == "kept"]
    assert kept, "within the wide limits"
    urdf.write_text(URDF.replace('"2"', '"-1.5"'))
    capsys.readouterr()
    for name in ("decide", "curate"):
        assert command(name, config, output) == 2
        said = capsys.readouterr().err.replace("\n", " ")
        for source in "ab":
            assert (
                f"source '{source}' in {output} was measured with other parameters: embodiments.arm.urdf_content_xxh3"
                in said
            )
    assert command("evidence", config, output, "--source", "a") == 0
    said = capsys.readouterr().err
    assert "warning: source 'b' in" in said and "embodiments.arm.urdf_content_xxh3 was" in said
    assert "source 'a' in" not in said
    assert command("evidence", config, output, "--source", "b") == 0
    assert "warning" not in capsys.readouterr().err
    assert command("decide", config, output) == 0
    assert set(outcomes(output).values()) == {"rejected"}, "by the new limits"
    urdf.unlink()
    assert command("decide", config, output) == 0, "a URDF that is gone is no difference"


def test_sources_and_evidence_must_match(
    inputs: Path, curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = inputs / "fewer.yaml"
    fewer.write_text((inputs / "loose.yaml").read_text().replace("  - {name: v, path: video, embodiment: panda}\n", ""))
    assert command("decide", fewer, curated) == 2
    assert (
        "holds evidence of source 'v', which the configuration does not name; name it, or remove"
        in capsys.readouterr().err
    )
    assert command("evidence", inputs / "loose.yaml", tmp_path / "half", "--source", "i") == 0
    assert command("decide", inputs / "loose.yaml", tmp_path / "half") == 2
    assert "source 'r' has no stored evidence in" in capsys.readouterr().err
    assert command("evidence", inputs / "loose.yaml", tmp_path / "half", "--source", "x") == 2
    assert "no source is named 'x'; known: i, r, v" in capsys.readouterr().err


def verdicts(output: Path, *lines: str) -> None:
    output.mkdir(exist_ok=True)
    (output / "verdicts.csv").write_text("\n".join(["episode_id,verdict,who,why", *lines]) + "\n")


def test_verdicts_beat_the_rules_and_hold_on_later_nights(inputs: Path, curated: Path, tmp_path: Path) -> None:
    output = copy(curated, tmp_path / "out")
    twin = next(name for name, row in read_ledger(curated).items() if row["outcome"] == "duplicate")
    verdicts(
        output,
        f"{twin},keep,Ann,both are wanted",
        'i/a/000001,keep,Bob,"gaps, but fine"',
        "i/a/000002,reject,Cy,wrong cube",
    )
    assert command("decide", inputs / "loose.yaml", output) == 0
    ledger = read_ledger(output)
    assert [
        (ledger[n]["outcome"], ledger[n]["stage"], ledger[n]["rule"]) for n in (twin, "i/a/000001", "i/a/000002")
    ] == [
        ("kept", "verdicts", "verdict.keep"),
        ("kept", "verdicts", "verdict.keep"),
        ("rejected", "verdicts", "verdict.reject"),
    ]
    assert ledger[twin]["detail"].startswith("kept by Ann: both are wanted; the rules drop it as a duplicate")
    assert "kept by Bob: gaps, but fine; the rules reject it: integrity.nan" in ledger["i/a/000001"]["detail"]
    assert ledger["i/a/000001"]["threshold"] == 0, "the rule's own number stays"
    steps = {
        n
        for p in (output / "transitions").rglob("*.parquet")
        for n in pq.ParquetFile(p).read(["episode_id"])[0].to_pylist()
    }
    assert {twin, "i/a/000001"} <= steps and "i/a/000002" not in steps
    judged = f"from '{output}/evidence/*/*.parquet' where episode_id = 'i/a/000001' and not passed"
    assert duckdb.sql(f'select distinct "check" {judged}').fetchall() == [("integrity.nan",)], "still judged"
    assert command("curate", inputs / "loose.yaml", output) == 0
    assert read_ledger(output) == ledger


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("i/a/00001,keep,Ann,x", ":2: no episode is 'i/a/00001'; did you mean 'i/a/000001'"),
        ("i/a/000001,keep,Ann", ":2: the line has 3 fields, the header 4; quote text that holds a comma"),
        ("i/a/000001,maybe,Ann,x", ":2: verdict is 'maybe'; use keep or reject"),
        ("i/a/000001,keep,,x", ":2: who is empty; a verdict says which episode, what, who and why"),
        ("r/train/000004,keep,Ann,x", ":2: 'r/train/000004' cannot be kept, it was quarantined (truncated:"),
        ("v/v,reject,Ann,x", ":2: 'v/v' was cut into 4 parts, and each is decided for itself; name them"),
        ("v/v/1450000000,keep,Ann,x", ":2: 'v/v/1450000000' cannot be kept, it was set aside (reset_interval:"),
        ("v/v/0,keep,Ann,x\nv/v/0,reject,Bob,y", ":3: 'v/v/0' has a verdict at"),
    ],
)
def test_verdicts_that_cannot_be_followed(
    inputs: Path, curated: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    before = tables(curated)
    verdicts(curated, line)
    try:
        assert command("decide", inputs / "loose.yaml", curated) == 2
    finally:
        (curated / "verdicts.csv").unlink()
    assert message in capsys.readouterr().err
    assert tables(curated) == before


def test_a_verdict_on_an_episode_of_an_earlier_night_is_a_warning(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    shutil.copytree(inputs, folder, ignore=shutil.ignore_patterns("curated", "strict", "halves"))
    output = tmp_path / "out"
    assert command("curate", folder / "loose.yaml", output) == 0
    write_isaac(folder / "isaac/a.hdf5", {0: motion(5), 1: motion(8)})
    verdicts(output, "i/a/000002,reject,Ann,blurred")
    for _ in range(2):
        assert command("curate", folder / "loose.yaml", output) == 0
        assert (
            "warning: i/a/000002: verdicts.csv:2: reject by Ann: an earlier run had this episode"
            in capsys.readouterr().err
        )
    found = duckdb.sql(
        f"select episode_id, status from '{output}/evidence/*/*.parquet' where stage = 'verdicts'"
    ).fetchall()
    assert found == [("i/a/000002", "not_run")]


def test_the_configuration_may_name_the_verdicts(inputs: Path, curated: Path, tmp_path: Path) -> None:
    named = inputs / "named.yaml"
    named.write_text((inputs / "loose.yaml").read_text() + "verdicts: said.csv\n")
    (inputs / "said.csv").write_text("who,why,verdict,episode_id\nAnn,wrong cube,reject,i/a/000000\n")
    output = copy(curated, tmp_path / "out")
    verdicts(output, "i/a/000002,reject,Bob,not read")
    assert command("decide", named, output) == 0
    assert [outcomes(output)[f"i/a/00000{n}"] for n in (0, 2)] == ["rejected", "kept"]
