"""Staged episodes come back whole; what cannot be written is quarantined, not lost."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import ErrorHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.output_episodes import image_episode
from transforms.arrays import with_column
from transforms.deduplication.fingerprint import FingerprintParams
from transforms.episode import Episode, content_id
from transforms.evidence import Evidence
from transforms.stage import DeadLetter
from transforms.staging import StageEpisode, load_episode, save_episode, staged_path


def test_an_episode_comes_back_whole_with_its_content_id(tmp_path: Path) -> None:
    episode = image_episode("arm", 3)
    stage = StageEpisode(str(tmp_path), FingerprintParams())
    (first,) = stage.process_element(episode)
    (again,) = stage.process_element(episode)
    assert again == first
    assert len(list((tmp_path / "episodes").iterdir())) == 1, "a retry replaces"
    back = load_episode(tmp_path, first.staged)
    assert back.content_id == first.content_id == content_id(episode)
    assert back.steps.equals(episode.steps)
    assert replace(back, content_id="", steps=episode.steps) == episode
    assert (first.n_steps, first.n_transitions, first.cameras) == (5, 4, ("wrist",))
    types = {c.name: c.type for c in first.columns}
    assert types["observation.state"] == "list<item: float>"
    assert types["observation.images.wrist"] == "image"
    assert "observation.images.wrist.index" not in types
    assert first.n_bytes > 4 * 70


@settings(max_examples=20, deadline=None)
@given(st.text(min_size=1), st.lists(st.floats(allow_nan=False), min_size=2, max_size=9))
def test_any_name_and_values_round_trip(name: str, values: list[float]) -> None:
    steps = pa.RecordBatch.from_pydict({"x": values})
    episode = Episode(name, "s", "e", "uri", "rlds", steps)
    with tempfile.TemporaryDirectory() as folder:
        place = save_episode(Path(folder), episode)
        assert place == staged_path(name)
        assert load_episode(Path(folder), place).steps.equals(steps)
        assert load_episode(Path(folder), place).episode_id == name


def test_a_worker_without_the_folder_says_so_before_any_work(tmp_path: Path) -> None:
    StageEpisode(str(tmp_path), FingerprintParams()).setup()
    with pytest.raises(
        FileNotFoundError, match=r"absent: there is no such folder on .*; use an --output on a file system"
    ):
        StageEpisode(str(tmp_path / "absent"), FingerprintParams()).setup()
    assert not list(tmp_path.iterdir())


def test_a_lost_episode_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="a staged episode is gone; the staging folder must be one that every"):
        load_episode(tmp_path, "episodes/none.episode")


def test_good_episodes_are_staged_and_a_bad_value_is_a_dead_letter(tmp_path: Path) -> None:
    good = image_episode("arm", 0)
    bad = image_episode("arm", 1)
    bad = replace(bad, steps=with_column(bad.steps, "counter", pa.array([2**63] * 5, pa.uint64())))

    def ids(rows: list[Evidence]) -> list[str]:
        return [row.episode_id for row in rows]

    with TestPipeline(runner=FnApiRunner()) as pipeline:
        handler: ErrorHandler = ErrorHandler(beam.Map(lambda x: x).with_output_types(DeadLetter))
        with handler:
            stage = StageEpisode(str(tmp_path), FingerprintParams()).with_error_handler(handler)
            evidence = pipeline | beam.Create([good, bad]) | stage
        dead = handler.output() | beam.Map(lambda d: (d.stage, d.episode_id, d.rule, "9223372036854775808" in d.detail))
        assert_that(evidence | beam.Map(lambda e: e.episode_id), equal_to([good.episode_id]), "kept")
        assert_that(dead, equal_to([("stage", bad.episode_id, "stage_failed", True)]), "dead")
    assert not (tmp_path / staged_path(bad.episode_id)).exists()
