"""GR00T's modality.json: which elements of state and action are which part, and where cameras and annotations are.

What its loaders need: state and action parts with `start` and `end`, cameras with the `original_key` of info.json,
annotation columns (or `task_index`) whose numbers are in tasks.jsonl (NVIDIA/Isaac-GR00T, gr00t/data/dataset.py and
gr00t/data/dataset/lerobot_episode_loader.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipeline.exports.export import ExportError
from beam_pipeline.exports.lerobot_columns import Feature, element_names
from beam_pipeline.exports.lerobot_sets import DataSet
from beam_pipeline.exports.lerobot_tasks import is_annotation
from transforms.episode import IMAGES
from transforms.schema import ACTION, STATE, UNKNOWN
from transforms.sources.lerobot_tasks import ANNOTATION

Parts = dict[str, dict[str, Any]]
INSTRUCTION = "human.task_description"
"""GR00T's usual name of the instruction where the source has no annotation of its own."""
_ROTATIONS = {
    "rpy": "euler_angles_rpy",
    "rotvec": "axis_angle",
    "rotation_6d": "rotation_6d",
    "quaternion": "quaternion",
}
_BODY = ("gripper", "neck", "head", "waist", "torso", "base")
_ARM_WORDS = {"shoulder", "elbow", "wrist", "arm"}
_HAND_WORDS = {"hand", "finger", "thumb", "pinky"}
_LEG_WORDS = {"hip", "knee", "ankle", "leg"}
_SLICE = re.compile(r"(.+)\[(\d+):(\d*)\]")


def modality(data: DataSet) -> tuple[dict[str, Any], list[str]]:
    """The file's content and notes; the source's own where it has one, as far as its columns are exported.

    Raises ExportError where an element of state or action lies outside what the source's own file names.
    """
    features = {f.name: f for f in data.features}
    absent = [name for name in (STATE, ACTION) if name not in features]
    if absent:
        raise ExportError(
            f"GR00T needs {absent[0]}, which {data.sources[0]!r} has not; declare `state` of its embodiment"
        )
    if data.modality:
        return _own(json.loads(data.modality), features, data.sources[0])
    conventions = data.episodes[0].conventions
    state = _parts(features[STATE], conventions)
    action = _parts(features[ACTION], conventions, state, features[STATE].shape[0])
    kind = conventions.get("action_kind", UNKNOWN)
    if kind != UNKNOWN:
        action = {name: {**part, "absolute": kind.startswith("absolute")} for name, part in action.items()}
    annotations: Parts = {f.name.removeprefix(ANNOTATION): {} for f in data.features if is_annotation(f.name)}
    return {
        "state": state,
        "action": action,
        "video": {f.name.removeprefix(IMAGES): {"original_key": f.name} for f in data.cameras("video")},
        "annotation": annotations or {INSTRUCTION: {"original_key": "task_index"}},
    }, []


def _own(own: Mapping[str, Any], features: Mapping[str, Feature], source: str) -> tuple[dict[str, Any], list[str]]:
    found: dict[str, Any] = {}
    notes = []
    for kind in ("state", "action"):
        column = STATE if kind == "state" else ACTION
        found[kind] = {}
        for key, part in own.get(kind, {}).items():
            name = part.get("original_key") or column
            width = features[name].shape[0] if name in features else 0
            if not 0 <= part["start"] < part["end"] <= width:
                raise ExportError(
                    f"source {source!r}: its modality.json says {kind}.{key} is {name}[{part['start']}:{part['end']}], "
                    f"and {width} elements are exported; correct that file and curate anew"
                )
            found[kind][key] = part
    for kind, prefix in (("video", IMAGES), ("annotation", ANNOTATION)):
        found[kind] = {}
        for key, part in own.get(kind, {}).items():
            name = part.get("original_key") or prefix + key
            if name in features:
                found[kind][key] = part
            else:
                notes.append(f"{source}: modality.json leaves out {kind} {key!r}, since {name} is not exported")
    return found, notes


def _parts(feature: Feature, conventions: Mapping[str, str], like: Parts | None = None, like_width: int = 0) -> Parts:
    """Parts of a vector by the names of its elements, else by the declared gripper and rotation, else as `like`."""
    width = feature.shape[0]
    names = element_names(json.loads(feature.names))
    if len(names) == width:
        by_name = _by_names(names)
        if by_name is not None:
            return by_name
    declared = _declared(feature.name, width, conventions)
    if declared is not None:
        return declared
    if like is not None and like_width == width:
        return {name: dict(part) for name, part in like.items()}
    return {"all": {"start": 0, "end": width}}


def words(name: str) -> list[str]:
    """`kLeftHandPinky` and `left_hand_pinky.pos` as left, hand, pinky."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word.lower() for word in re.split(r"[^A-Za-z]+", spaced) if word and word != "k"]


def part_of(name: str) -> str | None:
    """The part of a robot that an element's name speaks of; None where it speaks of none."""
    found = set(words(name))
    side = next((side for side in ("left", "right") if side in found), None)
    body = next((part for part in _BODY if part in found), None)
    if body is not None:
        return f"{side}_{body}" if side and body == "gripper" else body
    if found & _HAND_WORDS:
        limb = "hand"
    elif found & _LEG_WORDS:
        limb = "leg"
    elif found & _ARM_WORDS:
        limb = "arm"
    else:
        return None
    return f"{side}_{limb}" if side else f"single_{limb}"


def _by_names(names: Sequence[str]) -> Parts | None:
    """Runs of one part each; None where a name speaks of no part, or a part comes twice."""
    parts: Parts = {}
    last = None
    for at, name in enumerate(names):
        part = part_of(name)
        if part is None or (part in parts and part != last):
            return None
        parts.setdefault(part, {"start": at})["end"] = at + 1
        last = part
    return parts


def _declared(column: str, width: int, conventions: Mapping[str, str]) -> Parts | None:
    """Parts by the embodiment's gripper and rotation slices of this column, what is between them by its place."""
    known: Parts = {}
    for key, called in (("rotation_column", "end_effector_rotation"), ("gripper_column", "gripper")):
        found = _SLICE.fullmatch(conventions.get(key, UNKNOWN))
        if found is not None and found[1] == column:
            end = int(found[3]) if found[3] else width
            known[called] = {"start": int(found[2]), "end": end}
    if not known:
        return None
    rotation = conventions.get("rotation_type", UNKNOWN)
    if "end_effector_rotation" in known and rotation in _ROTATIONS:
        known["end_effector_rotation"]["rotation_type"] = _ROTATIONS[rotation]
    parts: Parts = {}
    at = 0
    for name, part in sorted(known.items(), key=lambda item: item[1]["start"]):
        if part["start"] > at:
            parts[_between(name, part["start"] - at, at)] = {"start": at, "end": part["start"]}
        parts[name] = part
        at = part["end"]
    if at < width:
        parts[f"from_{at}"] = {"start": at, "end": width}
    return parts


def _between(following: str, width: int, start: int) -> str:
    if following == "end_effector_rotation" and width == 3:
        return "end_effector_position"
    return "arm" if following == "gripper" and start == 0 else f"from_{start}"
