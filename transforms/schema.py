"""Column names in LeRobot's vocabulary; canonical units: quaternion xyzw, rad, m, gripper 0 closed to 1 open."""

from __future__ import annotations

STATE = "observation.state"
"""Proprioception as the source wrote it: original values, original units."""
ACTION = "action"
"""Action as the source wrote it."""

JOINT_POSITION = "observation.joint_position"
"""(J,) rad, in the order of the embodiment's joint names. Present only where declared with a unit."""
JOINT_VELOCITY = "observation.joint_velocity"
"""(J,) rad/s."""
END_EFFECTOR_POSE = "observation.end_effector_pose"
"""(7,) x y z in m, then quaternion x y z w. Present only where every part of it is declared."""
GRIPPER = "observation.gripper"
"""(1,) 0 closed to 1 open."""
ACTION_GRIPPER = "action.gripper"
"""(1,) the commanded opening, 0 closed to 1 open."""

FRAME_INDEX = "frame_index"
REWARD = "reward"
"""Reward that results from this step's action (RLDS: reward[t] results from action[t])."""
DISCOUNT = "discount"
IS_FIRST = "is_first"
IS_LAST = "is_last"
IS_TERMINAL = "is_terminal"
VALID = "valid"
"""False where a step of the resampled clock has no data within reach."""
STALENESS = "staleness_ms."
"""Prefix: age in ms of the value of a stream at each step (NaN where there is none)."""

NEXT_STATE = "next.observation.state"
NEXT_REWARD = "next.reward"
NEXT_DONE = "next.done"
NEXT_TRUNCATED = "next.truncated"

UNKNOWN = "unknown"
