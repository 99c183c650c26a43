"""Instructions beside those of episodes that move alike: scores worked by hand, swapped labels of real recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import yaml
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that
from numpy.typing import NDArray

from transforms.conventions import Embodiment, Source
from transforms.embeddings import TEXT, BlockKey, instruction_block
from transforms.episode import Episode, Finding
from transforms.evidence import Evidence, Fingerprint
from transforms.handlers.blocks import Embedded, TextBlock
from transforms.handlers.embedding import embed
from transforms.handlers.text_embedding import TextEmbeddingHandler
from transforms.instruction_agreement import (
    AGREEMENT,
    POINTS,
    CompareInstructions,
    Spoken,
    agreements,
    judge,
    nearest,
    path_of,
)
from transforms.instruction_grounding import InstructionGroundingParams
from transforms.loader import ReadRecording, plan

FEW = InstructionGroundingParams(neighbours=2, min_episodes=4)
TWO = {"open the drawer": (1, 0), "close the drawer": (0, 1)}


def straight(*ends: float) -> bytes:
    """A path of one joint, from the first value to the second."""
    return np.linspace(*ends, POINTS, dtype="<f4").tobytes()


def rows_of(texts: Sequence[str], ends: Sequence[float]) -> list[Spoken]:
    """Episodes of one joint that go to `ends`; the two texts of TWO are at right angles."""
    return [
        Spoken("toy", f"toy/{i}", text, straight(0, end), np.array(TWO.get(text, (1, 1)), np.int8).tobytes())
        for i, (text, end) in enumerate(zip(texts, ends, strict=True))
    ]


def found_of(rows: Sequence[Spoken], params: InstructionGroundingParams = FEW) -> dict[str, Finding]:
    return {one.episode_id: one.found for one in judge(rows, params) if one.found is not None}


def test_the_nearest_are_those_that_move_alike_and_never_itself() -> None:
    paths = np.stack([np.frombuffer(straight(0, end), "<f4") for end in (1.0, 1.1, 1.3, -1.0, -1.1)])
    assert nearest(paths, np.arange(5), 2).tolist() == [[1, 2], [0, 2], [1, 0], [4, 0], [3, 0]]
    assert nearest(paths, np.array([1, 3]), 1).tolist() == [[0], [1], [0], [0], [1]], "places among the references"


def test_agreement_by_hand() -> None:
    """Six episodes, three of each text: two of one text have cosine 1, of both 0, so 12 of 30 pairs: chance 0.4."""
    open_, close = TWO
    rows = rows_of([open_, open_, open_, close, close, close], [1, 1.1, 1.3, -1, -1.1, -1.3])
    found = found_of(rows)
    assert [found[f"toy/{i}"].value for i in range(6)] == [1.0] * 6
    swapped = [replace(rows[0], text=close, codes=rows[3].codes), *rows[1:]]
    found = found_of(swapped)
    # chance is now (2 * 1 + 4 * 3) / 30; the first's neighbours say something else, of its neighbours' one does
    chance = 14 / 30
    assert found["toy/0"].value == pytest.approx((0 - chance) / (1 - chance), abs=1e-8)
    assert found["toy/0"].detail == "of the 2 that move most alike 2 say 'open the drawer'"
    assert found["toy/1"].value == pytest.approx((0.5 - chance) / (1 - chance), abs=1e-8)
    assert found["toy/4"].value == 1.0


def test_what_cannot_be_compared_says_why() -> None:
    open_, close = TWO
    rows = rows_of([open_, open_, close, close], [1, 1.1, -1, -1.1])
    silent = [replace(rows[0], text=""), replace(rows[1], path=b""), replace(rows[2], codes=b"")]
    said = {one.episode_id: one.found.detail for one in judge([*silent, rows[3]], FEW) if one.found}
    assert said == {
        "toy/0": "no instruction that names a deed",
        "toy/1": "no joints, pose or state to compare",
        "toy/2": "its instruction has no vector",
        "toy/3": "1 episodes of the source can be compared, fewer than 4",
    }
    alike = found_of(rows_of([open_] * 4, [1, 2, 3, 4]))
    assert {f.detail for f in alike.values()} == {"all instructions of the source say the same: none can stand out"}
    assert all(f.value is None and f.status == "not_run" for f in alike.values())


def test_a_large_source_is_compared_with_some_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.instruction_agreement.MOST_REFERENCES", 40)
    open_, close = TWO
    rows = rows_of([open_, close] * 60, [sign * (1 + i / 500) for i in range(60) for sign in (1, -1)])
    found = found_of(rows, InstructionGroundingParams())
    assert len(found) == 120 and {f.value for f in found.values()} == {1.0}
    assert found == found_of(rows[::-1], InstructionGroundingParams()), "in any order"


def test_paths_take_the_best_declared_space() -> None:
    joints = np.arange(20.0).reshape(10, 2)
    joints[4] = np.nan
    columns = {
        "joint_position": pa.array(joints.tolist()),
        "observation.state": pa.array([[0.0]] * 10),
        "gripper": pa.array(np.linspace(0, 1, 10)),
    }
    from transforms.schema import GRIPPER, JOINT_POSITION, STATE

    named = dict(zip((JOINT_POSITION, STATE, GRIPPER), columns.values(), strict=True))
    path = np.frombuffer(path_of(pa.RecordBatch.from_pydict(named)), "<f4").reshape(POINTS, 3)
    assert path[0].tolist() == [0, 1, 0] and path[-1].tolist() == [18, 19, 1], "the gap is left out"
    state = np.frombuffer(path_of(pa.RecordBatch.from_pydict({STATE: columns["observation.state"]})), "<f4")
    assert state.tolist() == [0.0] * POINTS
    assert path_of(pa.RecordBatch.from_pydict({"x": pa.array([1.0])})) == b""


def evidence_of(episode: Episode) -> Evidence:
    empty = Fingerprint(episode.episode_id, "", "")
    return Evidence(episode.episode_id, episode.source, "", "", 0, 0, 0, "", empty)


def bridge(robot_data: Path) -> list[Episode]:
    """The 25 published episodes of BridgeData, of four tasks, with their instructions."""
    source = Source("bridge", str(robot_data / "rlds/bridge_dataset/1.0.0"), splits=("train",))
    reader = ReadRecording({"bridge": source}, {"": Embodiment()})
    found = []
    for ref in plan(source):
        (recording,) = reader.process_element(ref)
        (steps,) = recording.streams.values()
        text = recording.utterances[0].text
        one = Episode(recording.recording_id, "bridge", "", "", "rlds", steps, instruction=text)
        found.append(replace(one, instruction_status="matched"))
    return found


def test_swapped_instructions_of_bridge_stand_out(robot_data: Path) -> None:
    """Three of 25 get the text of another task, a hundred times: rank of the swapped among all, and the hint."""
    episodes = bridge(robot_data)
    encoder = TextEmbeddingHandler(device="cpu").load_model()
    texts = sorted({e.instruction or "" for e in episodes})
    known = embed(TextBlock(tuple(texts), tuple(texts)), encoder, 8)
    codes = dict(zip(known.ids, known.codes, strict=True))
    paths = np.stack([np.frombuffer(path_of(e.steps), "<f4") for e in episodes])
    true = [e.instruction or "" for e in episodes]
    rng = np.random.default_rng(5)
    areas, clean = [], []
    for _ in range(100):
        labels, swapped = list(true), rng.choice(len(true), 3, replace=False)
        for i in swapped:
            labels[i] = str(rng.choice([t for t in texts if t != true[i]]))
        vectors = np.stack([codes[t] for t in labels]).astype(np.float64)
        values, _, _ = agreements(paths, vectors, np.arange(len(true)), 5)
        other = np.setdiff1d(np.arange(len(true)), swapped)
        areas.append(auroc(values[swapped], values[other]))
        clean.append(float(np.median(values[other])))
    assert np.mean(areas) > 0.85, np.mean(areas)
    assert np.mean(clean) > 0.3, "of rightly labelled episodes most agree with their neighbours"


def auroc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """The chance that one of `low` is below one of `high`."""
    return float((low[:, None] < high).mean() + 0.5 * (low[:, None] == high).mean())


def test_another_phrasing_agrees_more_than_another_task(robot_data: Path) -> None:
    """CALVIN's annotators: of 34 tasks, many of which differ in a colour or a side alone, what MiniLM tells apart."""
    tasks = yaml.safe_load((robot_data / "lang/calvin_new_playtable.yaml").read_text())
    texts = [(task, text) for task, phrasings in sorted(tasks.items()) for text in phrasings]
    encoder = TextEmbeddingHandler(device="cpu").load_model()
    found = embed(TextBlock(tuple(f"{i:04d}" for i in range(len(texts))), tuple(t for _, t in texts)), encoder, 32)
    near = found.vectors() @ found.vectors().T
    names = np.array([task for task, _ in texts])
    same = names[:, None] == names
    np.fill_diagonal(near, -1)
    assert (names[near.argmax(1)] == names).mean() > 0.6, "the nearest phrasing is of the same task"
    assert near[same & (near > -1)].mean() > near[~same].mean() + 0.25


def test_the_finding_joins_its_evidence_in_a_pipeline() -> None:
    open_, close = TWO
    rows = rows_of([open_, open_, close, close, ""], [1, 1.1, -1, -1.1, 2])
    joints = [np.frombuffer(row.path, "<f4").astype(float) for row in rows]
    episodes = [
        Episode(
            row.episode_id,
            row.source,
            "",
            "",
            "lerobot",
            pa.RecordBatch.from_pydict({"observation.state": pa.array([[v] for v in values])}),
            instruction=row.text or None,
        )
        for row, values in zip(rows, joints, strict=True)
    ]
    vectors = [
        Embedded(
            ("instruction",),
            np.array([TWO[row.text]], np.int8),
            np.ones(1, np.float32),
            ("cpu",),
            "toy",
            "1",
            key=block.key,
        )
        for row, episode in zip(rows, episodes, strict=True)
        for block in instruction_block(episode)
    ]
    assert vectors[0].key == BlockKey("toy", "toy/0", TEXT).text()

    def check(found: list[Evidence]) -> None:
        said = {one.episode_id: [(f.check, f.value) for f in one.findings] for one in found}
        params = InstructionGroundingParams(neighbours=1, min_episodes=4)
        expected = {one.episode_id: one.found for one in judge(rows, params)}
        assert said == {name: [(AGREEMENT, f.value)] for name, f in expected.items() if f}
        assert said["toy/0"] == [(AGREEMENT, 1.0)] and said["toy/4"] == [(AGREEMENT, None)]

    with Pipeline() as pipeline:
        evidence = pipeline | "E" >> beam.Create([evidence_of(e) for e in episodes]).with_output_types(Evidence)
        embedded = pipeline | "V" >> beam.Create(vectors).with_output_types(Embedded)
        shown = pipeline | "S" >> beam.Create(episodes).with_output_types(Episode)
        compare = CompareInstructions(InstructionGroundingParams(neighbours=1, min_episodes=4))
        assert_that((evidence, embedded, shown) | compare, check)


def test_parameters_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours is 20 and min_episodes 20; need 1 <= neighbours < min_episodes"):
        InstructionGroundingParams(neighbours=20)
