"""README.md's commands, code and configuration, run on the sample; messages, files and places that it names.

Not run as they stand: `make run`, of which the commands that make prints are run elsewhere, and `make test`, which is
these tests; `--ray_address`, which needs a cluster and is tested with one in tests/runner.
"""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.commands import export as export_command
from transforms.formats import FORMATS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
LIMIT_S = 300
NOT_RUN = {
    "make run     # generate a sample of a simulated Panda, curate it into out/sample, print the outcomes": "make -n",
    "make test    # all tests": "make -n",
    "make airflow       # the nightly DAG on this machine, at 127.0.0.1:8080, with the sample as its recordings": (
        "tests/airflow"
    ),
    "make observe       # a run of the sample, watched by Prometheus, and a page of what its dashboards show": (
        "tests/infra/test_observe.py"
    ),
}
QUANTITY = re.compile(r"(?<![\w.])\d[\d,.]*\s?(?:s|ms|kB|MB|GB|%|x|Hz|episodes/s|MB/s)(?![\w])")


@dataclass(frozen=True)
class Done:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Run:
    """Runs a command in the project's folder, with `folder` in place of the `out/` that it names."""

    folder: Path

    def __call__(self, command: str) -> subprocess.CompletedProcess[str]:
        places = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "DATA": str(self.folder / "data")}
        ours = f"{self.folder}/out/"
        text = re.sub(r"(?<![\w/.-])out/", ours, command).replace(f"{ROOT}/out/", ours)
        return subprocess.run(
            ["bash", "-euc", text], cwd=ROOT, env=os.environ | places, capture_output=True, text=True, timeout=LIMIT_S
        )


def fenced(language: str) -> list[str]:
    """Blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def indented() -> list[str]:
    """Lines of indented blocks, without what is fenced."""
    text = re.sub(r"^```.*?^```", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def command_of(line: str) -> str:
    """The command of a line, without the words beside it and the brackets of what may be left out."""
    return re.sub(r"\s*\[[^\]]*\]", "", re.split(r"\s{3,}", line)[0])


def recipe_of(target: str) -> str:
    """The commands that `make` would run; a make within another make, as in `make test`, prints its number too."""
    outer = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}
    told = subprocess.run(
        ["make", "--no-print-directory", "-n", target, f"VENV={BIN.parent}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in outer},
    )
    assert told.returncode == 0, told.stderr
    return told.stdout


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="module")
def sample(run: Run) -> Path:
    """What `make run` makes: the commands that it would run, run."""
    recipe = recipe_of("run")
    recipe = recipe[recipe.index("rm -rf") :]
    done = run(recipe)
    assert done.returncode == 0, done.stderr
    assert "--runner=RayRunner" in recipe and "sample_lerobot: planned 12, kept 11" in done.stdout
    for reason in ("physics.velocity_ratio 1: sample_isaac/panda_a/000003", "truncated 1: sample_rlds/train/000012"):
        assert reason in done.stdout, "the end of a run shows the first episode of each reason"
    return run.folder / "out"


@pytest.fixture(scope="module")
def kitchen(run: Run, sample: Path) -> Path:
    """README's configuration beside recordings as it names them: seven joints and a gripper."""
    data = run.folder / "data"
    shutil.copytree(sample / "sample-input/lerobot", data / "kitchen")
    shutil.copy(sample / "sample-input/panda.urdf", data)
    (block,) = fenced("yaml")
    (data / "CONFIG.yaml").write_text(block, encoding="utf-8")
    return data


def test_every_command_line_is_run_or_known() -> None:
    commands = [line for line in indented() if line.startswith(("python ", "make "))]
    assert len(commands) == 9 and set(NOT_RUN) < set(commands)
    assert "python -m pytest --numprocesses" in recipe_of("test").splitlines()[-1]
    assert not fenced("sh") and not fenced("bash"), "commands are indented blocks here"


def test_from_own_recordings_in_two_commands(run: Run, sample: Path) -> None:
    lines = [command_of(line) for line in indented() if line.startswith("python -m beam_pipeline ")]
    inspect, curate, export = lines[:3]
    places = {
        "PATH...": "out/sample-input",
        "PATH": "out/sample-input/lerobot",
        "DIR": "out/own",
        "SET": "out/set",
    }

    def filled(command: str) -> str:
        return " ".join(places.get(word, word) for word in command.split())

    done = run(filled(inspect))
    assert done.returncode == 1 and "3 data sets, 1 error" in done.stdout, "a shard of the sample is cut"
    done = run(filled(curate))
    assert done.returncode == 0 and "guessed" in done.stdout and (sample / "own/config.yaml").is_file()
    done = run(filled(export))
    assert done.returncode == 0 and "lerobot-v3: 11 episodes" in done.stdout, done.stderr


def test_the_configuration_runs_here_and_on_ray(run: Run, kitchen: Path) -> None:
    job, on_ray = [command_of(line) for line in indented() if line.startswith("python -m beam_pipeline --config")]
    assert "--runner=RayRunner" in on_ray
    for number, command in enumerate((job, on_ray)):
        output = f"out/kitchen{number}"
        done = run(command.replace("CONFIG.yaml", str(kitchen / "CONFIG.yaml")).replace("DIR", output))
        assert done.returncode == 0, done.stderr
        assert "kitchen: planned 12, kept 11, rejected 1" in done.stdout
    folders = [kitchen.parent / f"out/kitchen{number}" for number in range(2)]
    parts = [sorted(path.relative_to(folder) for path in folder.rglob("*.parquet")) for folder in folders]
    assert parts[0] == parts[1]
    for part in parts[0]:
        assert (folders[0] / part).read_bytes() == (folders[1] / part).read_bytes(), "the same bytes on both runners"
    rows = duckdb.sql(f"select conventions from '{folders[0]}/episodes/*/*.parquet'").fetchall()
    stated = {pair["key"]: pair["value"] for pair in rows[0][0]}
    assert stated["action_kind"] == "absolute_joint" and stated["rotation_type"] == "unknown", "what is not declared"
    checks = duckdb.sql(
        f"select \"check\" from '{folders[0]}/evidence/*/*.parquet' where status = 'not_run'"
    ).fetchall()
    assert ("conventions.end_effector_pose",) in checks, "and its checks say so"


@pytest.mark.parametrize(
    ("right", "misspelt", "told"),
    [
        ("closed:", "closde:", "did you mean 'closed'"),
        ("quality.idle_fraction", "quality.idle_fractoin", "did you mean 'quality.idle_fraction'"),
        ("panda_joint3", "panda_joit3", "panda_joint3"),
        ("embodiment: panda", "embodiment: pandas", "did you mean 'panda'"),
        ("max_rejected_fraction: 0.2 ", "sources: {kitchn: {}} ", "did you mean 'kitchen'"),
        ("path: ${DATA}/kitchen", "path: ${DATA}/kitchn", "there is nothing at"),
    ],
)
def test_misspelt_words_are_errors_with_a_line(
    kitchen: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    misspelt: str,
    told: str,
) -> None:
    done = changed(kitchen, tmp_path, capsys, monkeypatch, right, misspelt)
    assert done.status == 2, "bad configuration"
    assert re.search(r"changed\.yaml:\d+: ", done.err) and told in done.err, done.err


def test_an_absent_column_is_named_and_a_failed_gate_publishes_nothing(
    kitchen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gripper = "gripper: {position: {column: observation."
    done = changed(kitchen, tmp_path, capsys, monkeypatch, f"{gripper}state", f"{gripper}stat")
    assert done.status == 3 and "gate failed, nothing was published" in done.err, done.err
    first = next(line for line in done.out.splitlines() if line.strip().startswith("conventions.column_absent 1"))
    assert "lerobot" not in first and "kitchen/train/000000" in first and "observation.state" in first
    assert not (tmp_path / "out/_manifests").exists()


def changed(
    kitchen: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    right: str,
    wrong: str,
) -> Done:
    """The configuration with some words replaced, run in this process."""
    text = (kitchen / "CONFIG.yaml").read_text(encoding="utf-8")
    assert right in text
    config = kitchen / "changed.yaml"
    config.write_text(text.replace(right, wrong), encoding="utf-8")
    monkeypatch.setenv("DATA", str(kitchen))
    capsys.readouterr()
    status = main(["--config", str(config), "--output", str(folder / "out")])
    said = capsys.readouterr()
    return Done(status, said.out, said.err)


def test_the_output_holds_what_is_listed_and_nothing_else(sample: Path) -> None:
    listed = [re.split(r"\s{2,}", line)[0].removeprefix("DIR/") for line in indented() if line.startswith("DIR/")]
    assert len(listed) > 10
    output = sample / "sample"
    files = [str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()]
    patterns = {line: re.sub(r"NAME|HASH|\d{8}", "*", line) + ("*" if line.endswith("/") else "") for line in listed}
    for line, pattern in patterns.items():
        assert any(fnmatch.fnmatch(file, pattern) for file in files), f"README lists {line}"
    unlisted = [file for file in files if not any(fnmatch.fnmatch(file, p) for p in patterns.values())]
    assert unlisted == [], "README lists every file"


def test_its_python_runs(run: Run, sample: Path) -> None:
    blocks = fenced("python")
    assert len(blocks) == 2
    for block in blocks:
        script = sample.parent / "block.py"
        script.write_text(block, encoding="utf-8")
        done = run(f"cd {sample.parent} && PYTHONPATH={ROOT} python block.py")
        assert done.returncode == 0, done.stderr
    assert "files" not in done.stderr and "sample_lerobot" in done.stdout
    assert (sample / "sample-again/_manifests/00000001.json").is_file()


def test_the_picture_s_command(run: Run, sample: Path) -> None:
    (command,) = re.findall(r"`(python -m examples\.plot_run [^`]*)`", PAGE)
    done = run(command.replace("docs/images", "out"))
    assert done.returncode == 0 and (sample / "sample.png").stat().st_size > 10_000, done.stderr


def test_polars_needs_the_flag_that_it_names(sample: Path) -> None:
    import polars

    files = f"{sample}/sample/transitions/**/*.parquet"
    assert "`hive_partitioning=True`" in re.sub(r"\s+", " ", PAGE)
    assert "source" in polars.scan_parquet(files, hive_partitioning=True).collect_schema()


def test_formats_and_exports_are_those_that_there_are() -> None:
    named = re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE)
    assert sorted(word for cell in named for word in re.findall(r"`(\w+)`", cell)) == sorted(FORMATS)
    exports = re.findall(r"--format ([\w-]+)", PAGE)
    assert exports and set(exports) <= set(export_command.FORMATS)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGE):
        assert (ROOT / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#]+)#([^)]+)\)", PAGE):
        headings = re.findall(r"^#+ (.*)$", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], f"{target}#{anchor}"


def test_numbers_stand_where_the_command_that_printed_them_is_named() -> None:
    prose = re.sub(r"^```.*?^```|`[^`]*`", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert QUANTITY.findall("at 12.1 s, 402 MB and 0.57 x") == ["12.1 s", "402 MB", "0.57 x"]
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    measured = " ".join(re.sub(r"\s+", " ", page) for page in pages if "python -m benchmarks." in page)
    for quantity in QUANTITY.findall(re.sub(r"\s+", " ", prose)):
        assert quantity in measured, f"README says {quantity}, and no page that names a benchmark's command does"
