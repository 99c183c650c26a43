"""Images of ROS topics, as stored or as lossless PNG: which can be shown, and one message at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from transforms.episode import Finding, ImageRef
from transforms.sources.guess_topics import IMAGE_KINDS
from transforms.sources.isaac_cameras import depth_mm
from transforms.sources.png import encode_png
from transforms.sources.ros_collect import STAGE
from transforms.sources.ros_layout import Layout
from transforms.sources.ros_topics import Topic

_RAW: Mapping[str, tuple[str, int, bool]] = {
    "mono8": ("u1", 1, False),
    "8UC1": ("u1", 1, False),
    "rgb8": ("u1", 3, False),
    "bgr8": ("u1", 3, True),
    "8UC3": ("u1", 3, True),
    "rgba8": ("u1", 4, False),
    "bgra8": ("u1", 4, True),
    "mono16": ("u2", 1, False),
    "16UC1": ("u2", 1, False),
    "rgb16": ("u2", 3, False),
    "bgr16": ("u2", 3, True),
    "32FC1": ("f4", 1, False),
}
"""Element, channels and whether blue comes first, by `sensor_msgs/image_encodings`."""
_DEPTH = ("16UC1", "32FC1")
"""REP 118: depth is uint16 mm or float32 m."""
_DEPTH_HEAD = 12
"""compressed_depth_image_transport puts its format and quantisation before the PNG."""


class UnreadableImage(ValueError):
    """An image message whose numbers contradict its bytes."""


def _said(layout: Layout) -> str:
    return next(iter(layout.labels.get("encoding", layout.labels.get("format", ("",)))), "")


def _problem(said: str, compressed: bool) -> str:
    if not compressed:
        return "" if said in _RAW else f"encoding {said!r} is none of {', '.join(_RAW)}"
    if "compresseddepth" in said.lower():
        return "" if "16uc1" in said.lower() else f"format {said!r}: of compressedDepth, 16UC1 alone is read"
    known = any(word in said.lower() for word in ("jpeg", "jpg", "png"))
    return "" if known else f"format {said!r} is neither jpeg nor png"


def is_compressed(kind: str) -> bool:
    """Whether messages of a type hold encoded images."""
    return kind.endswith("/CompressedImage")


def images_of(
    topics: Mapping[str, Topic], refer: Callable[[str, Topic], ImageRef]
) -> tuple[dict[str, ImageRef], list[Finding]]:
    """What `refer` makes of each topic of images by its name, and a finding for each that cannot be shown."""
    images: dict[str, ImageRef] = {}
    findings: list[Finding] = []
    for name, topic in topics.items():
        if topic.kind not in IMAGE_KINDS or not topic.count:
            continue
        if problem := image_problem(topic):
            detail = f"{name}: {topic.count} images are left out: {problem}"
            findings.append(Finding(STAGE, "metadata.unsupported", 1.0, "cameras", detail=detail))
        else:
            images[name] = refer(name, topic)
    return images, findings


def image_problem(topic: Topic) -> str:
    """Why a topic's images cannot be shown; empty where they can."""
    found = {_problem(_said(part.layout), is_compressed(topic.kind)) for part in topic.parts}
    return "; ".join(sorted(found - {""}))


def is_depth(topic: Topic) -> bool:
    """Whether a topic's images are depth, by the encoding that its messages state."""
    said = {_said(part.layout) for part in topic.parts}
    return any(one in _DEPTH or "compresseddepth" in one.lower() for one in said)


def encoded_image(
    kind: str, layout: Layout, numbers: Mapping[str, NDArray[np.generic]], row: int, payload: bytes
) -> bytes:
    """One message's image as JPEG or PNG: a compressed one as it is stored, a raw one as PNG, depth in mm.

    `numbers` are a part's columns and `row` the message among them. Raises UnreadableImage.
    """
    said = _said(layout)
    if is_compressed(kind):
        return payload[_DEPTH_HEAD:] if "compresseddepth" in said.lower() else payload
    element, channels, blue_first = _RAW[said]
    height, width, step = (int(numbers[name][row]) for name in ("height", "width", "step"))
    order = ">" if numbers["is_bigendian"][row] else "<"
    kind_of = np.dtype(order + element)
    line = width * channels * kind_of.itemsize
    if step < line or height * step > len(payload) or not line or not height:
        needs = f"{height} lines of {step} bytes for {width} px of {line} bytes"
        raise UnreadableImage(f"an image of {needs} and {len(payload)} bytes of data; record it again")
    lines = np.frombuffer(payload, np.uint8, height * step).reshape(height, step)[:, :line]
    pixels = np.ascontiguousarray(lines).view(kind_of).reshape(height, width, channels)
    pixels = pixels.astype(kind_of.newbyteorder("="), copy=False)
    if blue_first:
        pixels = pixels[:, :, [2, 1, 0, *range(3, channels)]]
    if element == "f4":
        return encode_png(depth_mm(pixels[:, :, 0], 1000.0))
    return encode_png(pixels[:, :, 0] if channels == 1 else pixels)
