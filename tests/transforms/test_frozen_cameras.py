"""Runs of frames that stand still: rests of the robot and key frames of a codec inside them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.transforms.test_quality import cameras, moving, scene
from transforms.frames import bridged


def test_a_rest_of_the_robot_does_not_split_a_frozen_camera() -> None:
    q = np.delete(moving(34), range(18, 22), axis=0)
    q[18:22] = q[17]  # steps 18 to 21 are at rest: 25 of 29 move, 13 of the 17 frozen ones
    found = cameras([scene(min(i, 12)) for i in range(30)], q)
    assert found["frames.frozen"].value == pytest.approx(13 / 25, abs=1e-8)
    assert found["frames.frozen"].frames == found["frames.frozen_s"].frames == (13, 29)
    assert found["frames.frozen_s"].value == 1.3


@pytest.mark.parametrize(
    ("repeated", "expected"),
    [
        ("1110111", "1111111"),
        ("1101110", "1111110"),
        ("1110010", "1110010"),  # two changes in a row are movement
        ("1101101", "1101101"),  # a camera at a third of the rate: no run of 3 on either side
        ("0111000", "0111000"),
    ],
)
def test_a_lone_key_frame_does_not_end_a_run(repeated: str, expected: str) -> None:
    flags = np.array([c == "1" for c in repeated])
    assert bridged(flags, np.ones(7, bool), 3).tolist() == [c == "1" for c in expected]
    assert bridged(flags, np.zeros(7, bool), 3).tolist() == flags.tolist()


def test_a_camera_slower_than_its_video_is_not_frozen() -> None:
    """At 10 Hz half a second is 5 frames: a picture that repeats 4 times is a 2 Hz camera, 6 times a frozen one."""
    slow = cameras([scene(i // 5) for i in range(30)], moving(30))
    stuck = cameras([scene(i // 7) for i in range(30)], moving(30))
    assert slow["frames.repeated"].value == pytest.approx(24 / 29)
    assert slow["frames.frozen"].value == 0
    assert stuck["frames.frozen"].value == pytest.approx(24 / 29)
