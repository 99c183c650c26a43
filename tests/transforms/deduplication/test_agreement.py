"""Channels by hand: which one decides, which one abstains, and what is told of each."""

import numpy as np
import pytest

from transforms.deduplication.agreement import AgreementParams, camera_similarity, frames_similarity, verify
from transforms.deduplication.fingerprint import text_shingles
from transforms.evidence import DuplicateEdge, Fingerprint, FrameSample
from transforms.frame_hashes import HASH_BYTES

PARAMS = AgreementParams()


def sample(camera: str, shown: dict[int, int], flipped: int = 0) -> FrameSample:
    """Frames by key; each one's hash is drawn from its seed, and its first `flipped` bits turned."""
    keys = sorted(shown)
    hashes = np.stack([np.random.default_rng(shown[k]).integers(0, 256, HASH_BYTES, np.uint8) for k in keys])
    bits = np.unpackbits(hashes, axis=1)
    bits[:, :flipped] ^= 1
    return FrameSample(camera, np.array(keys, "<u8").tobytes(), np.packbits(bits, axis=1).tobytes())


def episode(name: str, numbers: range = range(0), text: str = "", *frames: FrameSample) -> Fingerprint:
    shingles = np.array(numbers, "<u8").tobytes()
    return Fingerprint(name, name, text, text_shingles(text).tobytes(), shingles, frames)


def edge(a: str, b: str, relabelled: bool = False, frames: float | None = None, text: float | None = None):
    return DuplicateEdge(a, b, "trajectory", 1.0, relabelled, frames, text)


MOTION = range(50)
SAME = {key: key for key in range(8)}
OTHER = {key: key + 100 for key in range(8)}


def test_equal_motion_under_another_text_is_relabelled_and_an_empty_text_abstains():
    red, drawer = episode("a", MOTION, "pick up the red cube"), episode("b", MOTION, "open the drawer")
    assert verify(drawer, red, PARAMS) == edge("a", "b", relabelled=True, text=1 / 13)  # `the`, of 9 and 5
    assert verify(episode("c", MOTION), red, PARAMS) == edge("a", "c")
    assert verify(episode("d", MOTION, "Pick up the RED cube."), red, PARAMS) == edge("a", "d", text=1.0)
    assert verify(episode("d", MOTION, "pick up the green cube"), red, PARAMS).relabelled is True


def test_the_same_text_or_the_same_frames_without_the_same_motion_are_nothing():
    shown = sample("top", SAME)
    for one, other in ((range(50), range(100, 150)), (range(50), range(0)), (range(0), range(0))):
        assert verify(episode("a", one, "lift", shown), episode("b", other, "lift", shown), PARAMS) is None


def test_trajectory_similarity_is_exact_jaccard_and_the_threshold_is_inclusive():
    a, b = episode("a", range(0, 85)), episode("b", range(15, 100))  # 70 shared of 100
    assert verify(a, b, AgreementParams(trajectory_jaccard=0.7)).similarity == 0.7
    assert verify(a, b, AgreementParams(trajectory_jaccard=0.71)) is None


def test_frames_that_differ_part_equal_motions_and_absent_ones_abstain():
    a = episode("a", MOTION, "", sample("top", SAME))
    assert verify(a, episode("b", MOTION, "", sample("top", SAME, flipped=48)), PARAMS) == edge("a", "b", frames=1.0)
    assert verify(a, episode("b", MOTION, "", sample("top", SAME, flipped=49)), PARAMS) is None
    assert verify(a, episode("b", MOTION, "", sample("top", OTHER)), PARAMS) is None
    assert verify(a, episode("b", MOTION), PARAMS) == edge("a", "b")


def test_a_camera_is_compared_where_both_sampled_and_abstains_with_few_such_places():
    left = sample("top", {key: key for key in range(10)})
    right = sample("top", {key: key if key < 8 else key + 100 for key in range(5, 15)})
    assert camera_similarity(left, right, PARAMS) == 3 / 5  # places 5 to 9, of which 8 and 9 differ
    assert camera_similarity(left, sample("top", {key: key for key in range(7, 15)}), PARAMS) is None
    assert camera_similarity(left, sample("top", {key: key for key in range(6, 15)}), PARAMS) == 1.0


def test_the_least_of_the_common_cameras_counts():
    top, other_top, wrist = sample("top", SAME), sample("top", OTHER), sample("wrist", SAME)
    assert frames_similarity((top, wrist), (other_top, wrist), PARAMS) == 0.0
    assert frames_similarity((top, wrist), (wrist,), PARAMS) == 1.0
    few = sample("top", {0: 0, 1: 1})
    assert frames_similarity((few, wrist), (top, wrist), PARAMS) == 1.0  # the one that abstains says nothing
    assert frames_similarity((), (top,), PARAMS) is None


def test_renamed_cameras_find_their_own():
    one, two = sample("cam_0", SAME), sample("cam_1", OTHER)
    assert frames_similarity((one, two), (sample("right", OTHER), sample("left", SAME)), PARAMS) == 1.0
    assert frames_similarity((one,), (sample("left", OTHER),), PARAMS) == 0.0


def test_params_name_what_is_wrong():
    with pytest.raises(ValueError, match=r"dedup.trajectory_jaccard is 0; need 0 < trajectory_jaccard <= 1"):
        AgreementParams(trajectory_jaccard=0)
    with pytest.raises(ValueError, match=r"dedup.frame_bits is 128; need 0 to 127, where any two frames agree"):
        AgreementParams(frame_bits=128)
    with pytest.raises(ValueError, match=r"dedup.min_frames is 0; need at least 1"):
        AgreementParams(min_frames=0)
