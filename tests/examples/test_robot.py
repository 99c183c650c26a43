"""The sample's Panda against another project's description of it."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from xml.etree import ElementTree

import mujoco
import numpy as np

from examples.sample.robot import DQ_MAX_RAD_S, FINGERS, FOLDER, JOINTS, Q_MAX_RAD, Q_MIN_RAD, load_model

PANDA = "cmeel.prefix/share/example-robot-data/robots/panda_description/urdf/panda.urdf"
LIMITS = ("lower", "upper", "velocity", "effort")


def joints(path: Path) -> dict[str, dict[str, list[float]]]:
    """Joint name -> its limits, origin and axis, of the joints that move."""
    found = {}
    for joint in ElementTree.parse(path).getroot().findall("joint"):
        limit, origin, axis = joint.find("limit"), joint.find("origin"), joint.find("axis")
        if limit is None or axis is None:
            continue
        place = {} if origin is None else origin.attrib
        found[joint.attrib["name"]] = {
            "limits": [float(limit.attrib[name]) for name in LIMITS],
            "xyz": [float(x) for x in place.get("xyz", "0 0 0").split()],
            "rpy": [float(x) for x in place.get("rpy", "0 0 0").split()],
            "axis": [float(x) for x in axis.attrib["xyz"].split()],
        }
    return found


def test_limits_and_kinematics_equal_the_published_ones() -> None:
    published = joints(Path(str(distribution("example-robot-data").locate_file(PANDA))))
    own = joints(FOLDER / "panda.urdf")
    assert set(own) == {*JOINTS, *FINGERS} == set(published)
    for name, joint in own.items():
        assert joint["limits"] == published[name]["limits"], name
        assert joint["axis"] == published[name]["axis"], name
        for part in ("xyz", "rpy"):
            np.testing.assert_allclose(joint[part], published[name][part], atol=1e-9, err_msg=f"{name} {part}")


def test_simulated_robot_has_the_limits_of_its_urdf() -> None:
    limits = np.array([joints(FOLDER / "panda.urdf")[name]["limits"] for name in JOINTS])
    np.testing.assert_array_equal(limits[:, :3], np.column_stack([Q_MIN_RAD, Q_MAX_RAD, DQ_MAX_RAD_S]))
    model: mujoco.MjModel = load_model()
    ranges = np.array([model.joint(name).range for name in JOINTS])
    np.testing.assert_allclose(ranges, limits[:, :2])
