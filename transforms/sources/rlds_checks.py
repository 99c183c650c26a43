"""Where an RLDS record contradicts itself: step flags, `has_*` flags beside images and language."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from transforms.episode import Finding
from transforms.sources.rlds_steps import Steps, metadata_finding

_SAMPLED_IMAGES = 8
_SLACK_BYTES = 16
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_MAX_RAW_BYTES = 1 << 26
_FRAME_MARKERS = (0xC0, 0xC1)
"""Baseline and extended sequential JPEG: one scan whose size tells how much picture there is."""


def _jpeg_holds_picture(image: bytes) -> bool | None:
    """True where the scan exceeds a single colour's: 6 bits a luma block, 4 a chroma block (ITU T.81, K.3)."""
    position, bits = 2, 0
    while position + 4 <= len(image) and image[position] == 0xFF:
        marker, size = image[position + 1], struct.unpack_from(">H", image, position + 2)[0]
        if marker in _FRAME_MARKERS:
            height, width, parts = struct.unpack_from(">HHB", image, position + 5)
            samples = [image[position + 11 + 3 * part] for part in range(parts)]
            across, down = max(s >> 4 for s in samples), max(s & 15 for s in samples)
            units = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
            blocks = [units * (s >> 4) * (s & 15) for s in samples]
            bits = 6 * blocks[0] + 4 * sum(blocks[1:])
        elif marker == 0xDA:
            return len(image) - position - 2 - size > bits / 8 + _SLACK_BYTES if bits else None
        position += 2 + size
    return None


def _png_holds_picture(image: bytes) -> bool | None:
    """True unless every pixel continues the first, told from the filtered lines (ISO/IEC 15948, 9.2)."""
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", image, 16)
    pixel = depth * _PNG_CHANNELS[colour] // 8
    line = 1 + width * pixel
    if not pixel or interlaced or line * height > _MAX_RAW_BYTES:
        return None
    position, packed = 8, []
    while position + 8 <= len(image):
        size, kind = struct.unpack_from(">I4s", image, position)
        if kind == b"IDAT":
            packed.append(image[position + 8 : position + 8 + size])
        position += 12 + size
    raw = zlib.decompressobj().decompress(b"".join(packed), line * height)
    if len(raw) != line * height:
        return None
    rows = np.frombuffer(raw, np.uint8).reshape(height, line)
    filters, first, rest = rows[:, 0], rows[:, 1 : 1 + pixel], rows[:, 1 + pixel :].reshape(height, width - 1, pixel)
    if (filters == 3).any():
        return None  # the mean of two neighbours leaves no plain residual
    from_above = (filters == 2) | (filters == 4)
    from_above[0] = False
    whole_first = np.where(from_above[:, None], 0, first[0])
    plain = (filters == 0) | ((filters == 2) & ~from_above)
    whole_rest = np.where(plain[:, None, None], first[0], 0)
    return not ((first == whole_first).all() and (rest == whole_rest).all())


def holds_picture(image: bytes) -> bool | None:
    """Whether an encoded image is more than one colour, told without decoding its pixels; None where that is open."""
    try:
        if image.startswith(b"\xff\xd8"):
            return _jpeg_holds_picture(image)
        if image.startswith(b"\x89PNG"):
            return _png_holds_picture(image)
    except (struct.error, IndexError, KeyError, ValueError, zlib.error):
        return None
    return None if image else False


def picture_share(images: Sequence[memoryview]) -> float | None:
    """The share of up to eight evenly spaced images that hold a picture; None where none can be told."""
    places = np.unique(np.linspace(0, len(images) - 1, min(len(images), _SAMPLED_IMAGES)).astype(int))
    told = [told for place in places.tolist() if (told := holds_picture(bytes(images[place]))) is not None]
    return sum(told) / len(told) if told else None


def image_flag_findings(metadata: Mapping[str, object], steps: Steps) -> list[Finding]:
    """`has_CAMERA` against the camera's images: False beside pictures, True beside none."""
    found = []
    for key in sorted(metadata):
        flag, camera = metadata[key], key.removeprefix("has_")
        if not key.startswith("has_") or not isinstance(flag, bool):
            continue
        if camera not in steps.cameras and not camera.startswith("image"):
            continue
        held = steps.cameras.get(camera)
        share = 0.0 if held is None else picture_share(held.stored) if not held.shape else None
        if share is None or flag == (share > 0):
            continue
        said = "no such image is in the record" if held is None else f"{share:.0%} of its images hold a picture"
        found.append(metadata_finding("has_image", f"{key} is {flag} and {said}", share, "fraction"))
    return found


def language_flag_findings(metadata: Mapping[str, object], texts: Sequence[str]) -> list[Finding]:
    """`has_language` against the instructions that the record holds."""
    flag = metadata.get("has_language")
    if not isinstance(flag, bool) or flag == bool(texts):
        return []
    detail = f"has_language is {flag} and the record holds {len(texts)} instructions"
    return [metadata_finding("has_language", detail, float(len(texts)), "instructions")]


def _is_sound(column: pa.Array, at: int, needed: bool) -> bool:
    """Whether step `at` alone is set, or none where that is not `needed`; told without unpacking the bits."""
    if not isinstance(column, pa.BooleanArray) or column.null_count:
        return False
    count: int = column.true_count
    return (count == 1 and column[at].as_py()) or (count == 0 and not needed)


def flag_findings(steps: Steps) -> list[Finding]:
    """is_first only on the first step, is_last only on the last, is_terminal nowhere else (RLDS, arXiv 2111.02767)."""
    found = []
    for name, at, needed in (
        ("is_first", 0, True),
        ("is_last", steps.count - 1, True),
        ("is_terminal", steps.count - 1, False),
    ):
        column = steps.columns.get(name)
        if column is None:
            found.append(metadata_finding(name, f"the record has no {name}"))
            continue
        if _is_sound(column, at, needed):
            continue
        flags = np.asarray(column.to_numpy(zero_copy_only=False)).reshape(steps.count, -1)[:, 0].astype(bool)
        allowed = np.arange(steps.count) == at
        wrong = np.flatnonzero(flags != (allowed if needed else flags & allowed))
        if len(wrong):
            said = f"{name} is set on {int(flags.sum())} of {steps.count} steps and wrong on {len(wrong)}"
            detail = f"{said}, the first of them step {wrong[0]}"
            found.append(
                Finding(
                    "load",
                    f"metadata.{name}",
                    float(len(wrong)),
                    "steps",
                    frames=(int(wrong[0]), int(wrong[-1])),
                    detail=detail,
                )
            )
    return found
