from __future__ import annotations

import pytest

from transforms.conventions import TopicField, Topics
from transforms.sources.guess_topics import TopicInfo, guess_topics, short_name

JOINTS, POSE, TWIST = "sensor_msgs/JointState", "geometry_msgs/PoseStamped", "geometry_msgs/TwistStamped"


def fields(*parts: tuple[str, str]) -> tuple[TopicField, ...]:
    return tuple(TopicField(topic, field) for topic, field in parts)


def test_followers_are_the_state_and_leaders_the_action() -> None:
    full = ("effort", "position", "velocity")
    guess = guess_topics(
        [
            TopicInfo("/right/follow/joint_states", JOINTS, full),
            TopicInfo("/right/lead/joint_states", JOINTS, ("position",)),
            TopicInfo("/left/lead/joint_states", JOINTS, ("position",)),
            TopicInfo("/left/follow/joint_states", JOINTS, full),
        ]
    )
    both = ("/left/follow/joint_states", "/right/follow/joint_states")
    assert guess == Topics(
        {
            "observation.state": fields(*((t, "position") for t in both)),
            "observation.velocity": fields(*((t, "velocity") for t in both)),
            "observation.effort": fields(*((t, "effort") for t in both)),
            "action": fields(("/left/lead/joint_states", "position"), ("/right/lead/joint_states", "position")),
        }
    )


@pytest.mark.parametrize(
    ("topic", "leads"),
    [
        ("/joint_commands", True),
        ("/gello/joint_states", False),
        ("/master/joint_states", True),
        ("/arm/goal", True),
        ("/joint_states", False),
        ("/leadscrew/joint_states", False),
    ],
)
def test_what_leads(topic: str, leads: bool) -> None:
    guess = guess_topics([TopicInfo(topic, JOINTS)])
    assert set(guess.columns) == {"action" if leads else "observation.state"}


def test_poses_command_only_where_no_joints_do() -> None:
    topics = [TopicInfo("/target_pose", POSE), TopicInfo("/ee_pose", POSE), TopicInfo("/cmd_vel", TWIST)]
    assert {name: parts[0].topic for name, parts in guess_topics(topics).columns.items()} == {
        "action": "/target_pose",
        "observation.pose.ee_pose": "/ee_pose",
        "action.twist.cmd_vel": "/cmd_vel",
    }
    joints = [TopicInfo("/joint_cmd", JOINTS), *topics]
    assert {name: parts[0].topic for name, parts in guess_topics(joints).columns.items()} == {
        "action": "/joint_cmd",
        "action.pose.target_pose": "/target_pose",
        "observation.pose.ee_pose": "/ee_pose",
        "action.twist.cmd_vel": "/cmd_vel",
    }


def test_compressed_images_before_raw_ones_before_videos() -> None:
    raw, compressed = "sensor_msgs/Image", "sensor_msgs/CompressedImage"
    topics = [
        TopicInfo("/front/image_raw", raw),
        TopicInfo("/front/image_raw/compressed", compressed),
        TopicInfo("/wrist/color/image_raw", raw),
        TopicInfo("/wrist/depth/image_rect_raw", raw),
        TopicInfo("/front/camera_info", "sensor_msgs/CameraInfo"),
    ]
    guess = guess_topics(topics, ["front.mp4", "robot.top.color.image_raw.mp4"])
    assert guess.cameras == {
        "front": "/front/image_raw/compressed",
        "top": "robot.top.color.image_raw.mp4",
        "wrist": "/wrist/color/image_raw",
        "wrist.depth": "/wrist/depth/image_rect_raw",
    }
    assert guess.camera_info == {"front": "/front/camera_info"}


def test_instructions_by_name_then_by_metadata() -> None:
    text = "std_msgs/String"
    topics = [TopicInfo("/robot_description", text), TopicInfo("/task_prompt", text)]
    stated = ["metadata.info.task", "metadata.info.task_description", "metadata.info.operator"]
    assert guess_topics(topics, (), stated).instruction == ("/task_prompt",)
    assert guess_topics(topics[:1], (), stated).instruction == ("metadata.info.task_description",)
    assert guess_topics(topics[:1]).instruction == ()


def test_names() -> None:
    assert short_name("/robot/left_camera/color/image_raw") == "left_camera"
    assert short_name("/joint_states") == "joint_states"
    assert short_name("/imu/data") == "imu"
