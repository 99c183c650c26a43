"""Limits of URDF files: real models, and files that must be refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from transforms.urdf import load_limits

URDF = """<robot name="r">
  <joint name="base" type="fixed"/>
  <joint name="shoulder" type="revolute"><limit lower="-1.5" upper="2" velocity="3" effort="0"/></joint>
  <joint name="wheel" type="continuous"><limit lower="0" upper="0" velocity="9" effort="4"/></joint>
  <joint name="slide" type="prismatic"/>
</robot>"""


def write(tmp_path: Path, text: str, encoding: str = "utf-8") -> str:
    path = tmp_path / "robot.urdf"
    path.write_bytes(text.encode(encoding))
    return str(path)


def test_limits_in_file_order_with_nan_where_absent(tmp_path: Path) -> None:
    limits = load_limits(write(tmp_path, URDF))
    assert limits.names == ("shoulder", "wheel", "slide")
    np.testing.assert_array_equal(limits.lower, [-1.5, np.nan, np.nan])
    np.testing.assert_array_equal(limits.upper, [2, np.nan, np.nan])
    np.testing.assert_array_equal(limits.velocity, [3, 9, np.nan])
    np.testing.assert_array_equal(limits.effort, [np.nan, 4, np.nan])


def test_select_orders_and_names_the_nearest(tmp_path: Path) -> None:
    limits = load_limits(write(tmp_path, URDF))
    np.testing.assert_array_equal(limits.select(("wheel", "shoulder")).velocity, [9, 3])
    with pytest.raises(ValueError, match=r"'shoulder_1' is not among .*nearest is 'shoulder'"):
        limits.select(("shoulder_1",))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    load_limits(write(tmp_path, URDF))
    assert load_limits(write(tmp_path, URDF.replace('velocity="3"', 'velocity="33"'))).velocity[0] == 33


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ('<!DOCTYPE r [<!ENTITY a "b">]>' + URDF, "utf-8", "declares a DTD"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE r [<!ENTITY a "b">]>' + URDF, "utf-16", "declares a DTD"),
        ("<robot>", "utf-8", "not well-formed"),
        ("<mujoco/>", "utf-8", "root element is <mujoco>"),
        (URDF.replace("-1.5", "left"), "utf-8", "lower of joint 'shoulder' is 'left'"),
        (URDF.replace("-1.5", "5"), "utf-8", "lower 5.0 above upper 2.0"),
        (URDF.replace("wheel", "slide"), "utf-8", "without a name of their own"),
    ],
)
def test_what_is_no_plain_urdf_is_refused(tmp_path: Path, text: str, encoding: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_limits(write(tmp_path, text, encoding))


def test_a_missing_file_says_what_to_correct(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="correct `urdf`"):
        load_limits(str(tmp_path / "none.urdf"))


@pytest.mark.skipif("ROBOT_DATA" not in os.environ, reason="ROBOT_DATA is not set")
def test_real_models() -> None:
    models = Path(os.environ["ROBOT_DATA"]) / "models"
    panda = load_limits(str(models / "panda.urdf")).select(("panda_joint4", "panda_joint5"))
    np.testing.assert_array_equal(panda.lower, [-3.0718, -2.8973])
    np.testing.assert_array_equal(panda.velocity, [2.175, 2.61])
    assert len(load_limits(str(models / "g1_29dof.urdf")).names) == 29
    assert np.isnan(load_limits(str(models / "widowx.urdf")).effort).all()
