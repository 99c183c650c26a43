"""All messages of one topic: their clocks, and their fields as arrays, whatever file and encoding they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.sources.guess_topics import JOINTS, TRANSFORMS
from transforms.sources.ros_wire import Part, Rows

NS = 1_000_000_000
JOINT_FIELDS = ("position", "velocity", "effort")


def _xyz(path: str, last: str = "xyz") -> tuple[str, ...]:
    return tuple(f"{path}.{axis}" for axis in last)


FIELDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "geometry_msgs/PoseStamped": {"pose": (*_xyz("pose.position"), *_xyz("pose.orientation", "xyzw"))},
    "geometry_msgs/TwistStamped": {"twist": (*_xyz("twist.linear"), *_xyz("twist.angular"))},
    "geometry_msgs/WrenchStamped": {"wrench": (*_xyz("wrench.force"), *_xyz("wrench.torque"))},
    "sensor_msgs/Imu": {
        "orientation": _xyz("orientation", "xyzw"),
        "angular_velocity": _xyz("angular_velocity"),
        "linear_acceleration": _xyz("linear_acceleration"),
    },
}
"""Numbers of a message that make one vector, by the name of the field. Quaternions are x y z w, as ROS has them."""


@dataclass(frozen=True, eq=False)
class Topic:
    """One topic's messages in order of log time: `log_ns` (T,), `parts` whose rows number them 0..T-1."""

    name: str
    kind: str
    log_ns: Rows
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        return len(self.log_ns)


@dataclass(frozen=True, eq=False)
class Values:
    """A field of T messages: (T, D) with NaN where a message lacks it, and the joints' names where it has any.

    `other_names` counts messages whose joints are named differently, `lacking` those without the field.
    """

    array: NDArray[np.generic]
    names: tuple[str, ...] = ()
    other_names: int = 0
    lacking: int = 0


def in_log_order(name: str, kind: str, log_ns: Rows, parts: Sequence[Part]) -> Topic:
    """A topic of parts whose rows number its messages as `log_ns` (N,) does; those in no part are left out.

    Equal log times keep their order.
    """
    rows = np.concatenate([part.rows for part in parts]) if parts else np.zeros(0, np.int64)
    kept = np.sort(rows)
    order = kept[np.argsort(log_ns[kept], kind="stable")]
    rank = np.full(len(log_ns), -1, np.int64)
    rank[order] = np.arange(len(order))
    moved = [Part(p.layout, rank[p.rows], p.columns, p.spare, p.tails) for p in parts]
    return Topic(name, kind, log_ns[order], tuple(moved))


def _stamp_paths(topic: Topic) -> tuple[str, str] | None:
    before = "transforms[0].header.stamp" if topic.kind == TRANSFORMS else "header.stamp"
    named = (f"{before}.sec", f"{before}.nanosec")
    return named if all(named[0] in part.columns for part in topic.parts) and topic.parts else None


def header_stamps(topic: Topic) -> Rows | None:
    """(T,) ns of the header stamps, 0 where a header was left unset; None where messages have no header."""
    paths = _stamp_paths(topic)
    if paths is None:
        return None
    out = np.zeros(topic.count, np.int64)
    for part in topic.parts:
        seconds, nanoseconds = (part.columns[path].astype(np.int64) for path in paths)
        out[part.rows] = seconds * NS + nanoseconds
    return out


def texts(topic: Topic, path: str) -> list[str]:
    """The text of a field of each message."""
    out = [""] * topic.count
    for part in topic.parts:
        said = "".join(part.labels.get(path, ()))
        for row in part.rows:
            out[row] = said
    return out


def filled_fields(topic: Topic) -> tuple[str, ...]:
    """Names of the fields that hold numbers in some message; of transforms, the frames that they place."""
    if topic.kind == TRANSFORMS:
        return tuple(sorted({child for part in topic.parts for child in _children(part)}))
    if topic.kind in FIELDS:
        return tuple(FIELDS[topic.kind])
    found = {path for part in topic.parts for path, values in part.columns.items() if values.ndim == 1 or values.size}
    return tuple(sorted(found))


def _children(part: Part) -> dict[str, int]:
    """The places of a TFMessage's transforms by the frame that they place."""
    count = int(part.labels.get("transforms#", ("0",))[0])
    return {part.labels[f"transforms[{i}].child_frame_id"][0]: i for i in range(count)}


def _paths(topic: Topic, part: Part, name: str) -> tuple[str, ...]:
    if topic.kind == TRANSFORMS:
        place = _children(part).get(name)
        if place is None:
            return ()
        inside = f"transforms[{place}].transform"
        return (*_xyz(f"{inside}.translation"), *_xyz(f"{inside}.rotation", "xyzw"))
    return FIELDS.get(topic.kind, {}).get(name, (name,))


def _matrix(topic: Topic, part: Part, name: str) -> NDArray[np.generic] | None:
    """(M, D) of a field in one part; None where the part has none or it is empty."""
    paths = _paths(topic, part, name)
    if not paths or not all(path in part.columns for path in paths):
        return None
    columns = [part.columns[path] for path in paths]
    shaped = columns[0].reshape(len(part.rows), -1) if len(columns) == 1 else np.stack(columns, axis=1)
    return shaped if shaped.shape[1] else None


def field_values(topic: Topic, name: str, joints: Sequence[str] = ()) -> Values | None:
    """A field of all messages, joints in the order of the first message that has it, or of `joints`.

    Messages of another order are put in it; joints that a message lacks are NaN. None where no message has the field.
    """
    having = [(part, values) for part in topic.parts if (values := _matrix(topic, part, name)) is not None]
    if not having:
        return None
    having.sort(key=lambda one: int(one[0].rows[0]))
    named = topic.kind == JOINTS and name in JOINT_FIELDS
    first, values = having[0]
    wanted = tuple(joints) or (first.labels.get("name", ()) if named else ())
    if len(having) == 1 and not joints and len(values) == topic.count:
        return Values(_in_rows(values, first.rows), wanted)
    width = len(wanted) or values.shape[1]
    kind = np.result_type(values.dtype, np.float32) if values.dtype.kind != "f" else values.dtype
    out = np.full((topic.count, width), np.nan, kind)
    other = 0
    for part, found in having:
        names = part.labels.get("name", ()) if named else ()
        if len(names) == found.shape[1] and wanted:
            places = [(to, names.index(joint)) for to, joint in enumerate(wanted) if joint in names]
            for to, place in places:
                out[part.rows, to] = found[:, place]
            other += 0 if joints or names == wanted else len(part.rows)
        else:
            many = min(width, found.shape[1])
            out[part.rows[:, None], np.arange(many)] = found[:, :many]
            other += len(part.rows) if found.shape[1] != width else 0
    lacking = topic.count - sum(len(part.rows) for part, _ in having)
    return Values(out, wanted, other, lacking)


def _in_rows(values: NDArray[np.generic], rows: Rows) -> NDArray[np.generic]:
    if np.array_equal(rows, np.arange(len(rows))):
        return values
    out = np.empty_like(values)
    out[rows] = values
    return out
