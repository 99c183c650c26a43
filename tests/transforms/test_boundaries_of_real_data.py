"""Recorded demonstrations laid end to end with their marks removed: the resets between them are found, and no more."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.transforms.recordings import batch, clock, recording
from transforms.episode_boundary import EpisodeBoundaryParams, segment

DATA = os.environ.get("ROBOT_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="ROBOT_DATA is not set: no recorded demonstrations to cut")


@needs_data
@pytest.mark.parametrize("name", ["dataset", "generated_dataset_small"])
@pytest.mark.parametrize(("urdf", "least"), [(True, 9), (False, 7)])
def test_simulator_resets_between_demonstrations_are_found(name: str, urdf: bool, least: int) -> None:
    root = Path(DATA or "")
    with h5py.File(root / "isaaclab_hdf5" / f"{name}.hdf5") as file:
        joints = [demo["states/articulation/robot/joint_position"][:, :7] for demo in file["data"].values()]
    truth = np.cumsum([len(q) for q in joints])[:-1].tolist()
    q = np.concatenate(joints)
    conventions = {
        "urdf": str(root / "models" / "panda.urdf") if urdf else "unknown",
        "joint_names": "[" + ",".join(f'"panda_joint{i}"' for i in range(1, 8)) + "]",
    }
    steps = batch(clock(len(q), 20), observation__joint_position=q)
    result = segment(recording({"steps": steps}, explicit=False, conventions=conventions), EpisodeBoundaryParams())
    cuts = [s.start for s in result[1:]]
    assert len(truth) == 9
    assert set(cuts) <= set(truth)
    assert len(cuts) >= least
