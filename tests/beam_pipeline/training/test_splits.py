"""Splits: near copies and children stay together, nothing moves that need not, and the command says what it did."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipeline.__main__ import main
from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import OutputError
from beam_pipeline.training.splits import Member, SplitParams, assign, given_split, members, place, read_splits
from tests.factories import motion, rlds_example, write_isaac, write_rlds
from tests.job import digests, run_job

SOURCES = """  - {name: toy, path: 'rlds/1.0.0', format: rlds, embodiment: panda}
  - {name: arm, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve episodes: one motion under two texts (relabelled: both kept), and one of it in another source again."""
    folder = tmp_path_factory.mktemp("splits")
    examples = [rlds_example(seed) for seed in range(7)]
    examples.append(rlds_example(3, instruction="open the drawer over there"))
    write_rlds(folder / "rlds/1.0.0", [examples])
    write_isaac(folder / "isaac/a.hdf5", {number: motion(100 + number) for number in range(4)})
    job = run_job(folder, SOURCES)
    assert job.status == 0 and set(job.outcomes().values()) == {"kept"}
    return folder / "out"


def test_a_motion_under_two_texts_is_one_component_of_the_published_edges(folder: Path) -> None:
    (edge,) = pq.read_table(folder / "clusters/part-00000.parquet").to_pylist()
    assert (edge["a"], edge["b"], edge["relabelled"]) == ("toy/train/000003", "toy/train/000007", True)
    found = {m.episode_id: m.component for m in members(CuratedSet(folder))}
    assert len(found) == 12 and len(set(found.values())) == 11
    contents = dict(
        zip(
            *(
                pq.read_table(folder / "ledger/source=toy/part-00000.parquet")[c].to_pylist()
                for c in ("episode_id", "content_id")
            ),
            strict=True,
        )
    )
    assert found["toy/train/000003"] == min(contents["toy/train/000003"], contents["toy/train/000007"])
    for seed in range(40):
        splits = {a.episode_id: a.split for a in assign(members(CuratedSet(folder)), SplitParams(0.5, seed=seed))}
        assert splits["toy/train/000003"] == splits["toy/train/000007"]


def test_the_command_writes_the_same_bytes_twice_and_a_later_run_still_owns_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digests(folder)
    assert main(["split", "--output", str(folder), "--val", "0.3", "--stratify"]) == 0
    first = (folder / "splits.parquet").read_bytes()
    assert main(["split", "--output", str(folder), "--val", "0.3", "--stratify"]) == 0
    assert (folder / "splits.parquet").read_bytes() == first
    assert {k: v for k, v in digests(folder).items() if k != "splits.parquet"} == before
    said = capsys.readouterr().out
    assert "toy" in said and f"splits: {folder}/splits.parquet" in said
    rows = pq.read_table(folder / "splits.parquet").to_pylist()
    assert [row["episode_id"] for row in rows] == sorted(row["episode_id"] for row in rows)
    counted: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        counted[row["source"]].append(row["split"])
    assert {source: splits.count("val") for source, splits in counted.items()} == {"arm": 1, "toy": 2}
    assert run_job(folder.parent, SOURCES).status == 0, "the splits file is ours"
    assert read_splits(CuratedSet(folder))["arm/a/000000"] in ("train", "val")


def member(number: int, component: int, source: str = "s") -> Member:
    return Member(f"{source}/train/{number:06d}", source, f"{component:032x}")


@given(st.lists(st.integers(0, 30), max_size=40), st.lists(st.integers(31, 60), max_size=20), st.integers(0, 5))
def test_new_components_move_no_episode(old: list[int], new: list[int], seed: int) -> None:
    had = [member(i, c) for i, c in enumerate(old)]
    more = [member(len(old) + i, c) for i, c in enumerate(new)]
    params = SplitParams(0.3, 0.2, seed)
    before = {a.episode_id: a.split for a in assign(had, params)}
    after = {a.episode_id: a.split for a in assign([*more, *had], params)}
    assert before.items() <= after.items()
    wider = {a.episode_id: a.split for a in assign(had, SplitParams(0.3, 0.5, seed))}
    assert [e for e in before if (before[e] == "val") != (wider[e] == "val")] == [], "test takes from train alone"


@given(
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["a", "b"])), max_size=60),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_components_never_straddle_and_input_order_is_nothing(
    rows: list[tuple[int, str]], stratify: bool, random: Random
) -> None:
    found = [member(i, component, source) for i, (component, source) in enumerate(rows)]
    params = SplitParams(0.3, 0.3, stratify=stratify)
    splits = {a.episode_id: (a.component, a.split) for a in assign(found, params)}
    assert len(set(splits.values())) == len({component for component, _ in splits.values()})
    random.shuffle(found)
    assert {a.episode_id: (a.component, a.split) for a in assign(found, params)} == splits


def test_fractions_are_met_on_average_and_in_each_source_when_stratified() -> None:
    found = [member(i, 1000 * s + i, f"s{s}") for s in range(3) for i in range(400)]
    splits = [a.split for a in assign(found, SplitParams(0.1, 0.2))]
    share = np.array([splits.count("val"), splits.count("test")]) / len(splits)
    np.testing.assert_allclose(share, [0.1, 0.2], atol=0.03)
    exact = assign(found, SplitParams(0.1, 0.2, stratify=True))
    for source in ("s0", "s1", "s2"):
        own = [a.split for a in exact if a.source == source]
        assert (own.count("val"), own.count("test")) == (40, 80)
    assert place("x", 0) != place("x", 1)


def test_given_splits_stay_except_where_copies_straddle_them() -> None:
    rows = [
        ("a/train/0", 1),
        ("a/train/1", 2),
        ("a/val/0", 2),
        ("a/validation/1", 3),
        ("b/train/0", 4),
        ("b/train/1", 3),
    ]
    found = [Member(name, name[0], str(component)) for name, component in rows]
    splits = {a.episode_id: a.split for a in assign(found, SplitParams(0.0, given=True))}
    assert splits == {
        "a/train/0": "train",
        "a/train/1": "train",
        "a/val/0": "train",
        "a/validation/1": "val",
        "b/train/0": "train",
        "b/train/1": "val",
    }
    assert [given_split(name) for name in ("a/b/0", "train/0", "set/test/000003")] == [None, None, "test"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--val", "1.5"], 2, "val is 1.5; need 0 <= val < 1"),
        (["--val", "0.6", "--test", "0.4"], 2, "val 0.6 and test 0.4 leave nothing to train on"),
        (["--vall", "0.1"], 2, "unrecognized arguments: --vall"),
        ([], 1, "holds no published run"),
    ],
)
def test_what_cannot_be_split_is_told(
    tmp_path: Path, arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["split", "--output", str(tmp_path), *arguments]) == status
    assert message in capsys.readouterr().err


def test_notes_name_sources_without_validation_and_given_splits_left(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    assert main(["split", "--output", str(folder), "--val", "0.001"]) == 0
    assert "no val episode in arm, toy: use --stratify, or a larger fraction" in capsys.readouterr().out
    assert main(["split", "--output", str(folder), "--val", "0.001", "--stratify"]) == 0
    assert "no val episode in arm, toy: they have too few components" in capsys.readouterr().out


def test_splits_of_another_run_are_refused(folder: Path, tmp_path: Path) -> None:
    curated = CuratedSet(folder)
    (folder / "splits.parquet").unlink(missing_ok=True)
    with pytest.raises(
        OutputError, match=r"splits.parquet does not exist; run: python -m beam_pipeline split --output"
    ):
        read_splits(curated)
    pq.write_table(pq.read_table(folder / "clusters/part-00000.parquet"), folder / "splits.parquet")
    with pytest.raises(OutputError, match="was not written by `split`; remove it and run that"):
        read_splits(curated)
    assert main(["split", "--output", str(folder)]) == 0
    held = pq.read_table(folder / "splits.parquet")
    pq.write_table(held.slice(1), folder / "splits.parquet")
    with pytest.raises(OutputError, match=r"lacks 1 of 12 episodes of run .*, such as 'arm/a/000000'"):
        read_splits(curated)
    assert main(["split", "--output", str(folder)]) == 0
