"""The corpus of episodes is what it says, scoring can fail, and a small one passes through the real pipeline."""

import numpy as np
import pytest

from benchmarks.dedup_episodes import bars, measure, nearest_other, rightly, score
from benchmarks.dedup_limits import _limit, found
from benchmarks.episode_corpus import Corpus, bare, tasks_of
from benchmarks.episode_trials import Closeness, cropped, make_trial, noisy, resampled
from transforms.deduplication.minhash import jaccard
from transforms.evidence import DuplicateEdge, Fingerprint

TASKS = tasks_of(5, 2)


def trial(seed: int = 1, task: int = 0):
    return make_trial(np.random.default_rng(seed), TASKS[task], Closeness())


def test_trials_are_smooth_differ_and_are_the_same_for_a_seed():
    one, again, other = trial(), trial(), trial(2)
    assert np.array_equal(one.joints, again.joints) and one.text == other.text
    assert one.joints.shape[1] == 7 and one.gripper.shape == (len(one.joints), 1)
    assert np.abs(np.diff(one.joints, axis=0)).max() < 0.35, "no step of 0.1 s is a jump"
    assert one.gripper.min() == 0 and one.gripper.max() == 1
    shingles = [np.frombuffer(bare("x", t).trajectory_shingles, "<u8") for t in (one, other)]
    assert jaccard(*shingles) < 0.2


def test_copies_are_what_they_say():
    one, rng = trial(), np.random.default_rng(3)
    for _ in range(20):
        crop, places = cropped(rng, one, 0.85)
        assert len(crop.joints) >= 0.85 * len(one.joints)
        assert np.array_equal(crop.joints, one.joints[int(places[0]) : int(places[-1]) + 1])
    half, places = resampled(rng, one, 0.5)
    assert np.diff(places) == pytest.approx(2.0) and len(half.joints) == pytest.approx(len(one.joints) / 2, abs=1)
    assert half.joints[3] == pytest.approx([np.interp(places[3], np.arange(len(one.joints)), j) for j in one.joints.T])


def test_the_nearest_other_trial_is_that_of_brute_force():
    members = [bare(f"{seed}", trial(seed)) for seed in range(12)]
    arrays = [np.frombuffer(one.trajectory_shingles, "<u8") for one in members]
    expected = [max(jaccard(a, b) for j, b in enumerate(arrays) if j != i) for i, a in enumerate(arrays[:5])]
    assert nearest_other(members, 5) == pytest.approx(expected)


def test_scores_fall_with_what_is_missed_and_what_is_wrong():
    names = ("t0", "t0.re-encoded", "t0.cropped", "t0.resampled", "t0.relabelled", "t0.replayed", "t1")
    kinds = {name: name.partition(".")[2] for name in names if "." in name}
    corpus = Corpus([Fingerprint(n, n, "") for n in names], kinds, dict.fromkeys(kinds, "t0"))

    def edge(b: str, relabelled: bool = False) -> DuplicateEdge:
        return DuplicateEdge("t0", b, "trajectory", 1.0, relabelled)

    assert rightly(corpus, edge("t0.cropped")) and rightly(corpus, edge("t0.relabelled", relabelled=True))
    wrong = [edge("t0.relabelled"), edge("t0.cropped", relabelled=True), edge("t0.replayed"), edge("t1")]
    assert not any(rightly(corpus, one) for one in wrong)
    told = {row.name: row.value for row in score(corpus, [edge("t0.re-encoded"), edge("t0.cropped"), edge("t1")], "")}
    assert told["episodes: recall, re-encoded"] == 1 and told["episodes: recall, resampled"] == 0
    assert told["episodes: precision"] == pytest.approx(2 / 3)
    assert told["episodes: lost"] == 1 and told["episodes: other trials"] == 2
    assert {bar.row for bar in bars()} <= told.keys()


def test_a_limit_is_the_last_level_before_recall_falls():
    row = _limit("noise", "rad", [(0.1, 1.0), (0.2, 0.98), (0.3, 0.97), (0.4, 0.99)], "")
    assert row.value == 0.2 and "0.3: 0.970" in row.note
    assert _limit("noise", "rad", [(0.1, 0.9)], "").value is None
    one = trial()
    assert found(bare("a", one), bare("b", noisy(np.random.default_rng(1), one, 0.001)))
    assert not found(bare("a", one), bare("b", trial(2)))


def test_a_small_corpus_passes_through_the_pipeline():
    told = {row.name: row.value for row in measure(trials=80, pairs=3, seed=7)}
    assert all(told[f"episodes: recall, {kind}"] == 1 for kind in ("re-encoded", "cropped", "resampled", "relabelled"))
    assert told["episodes: precision"] == 1 and told["episodes: replays told apart"] == 1
    assert told["episodes: lost"] == told["episodes: relabelled dropped"] == 0 and told["episodes: dropped"] == 9
