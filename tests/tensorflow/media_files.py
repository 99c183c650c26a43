"""Media written by hand, so that a decoder is held to what was put in, not to another library."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Mapping

import numpy as np


def exr(planes: Mapping[str, np.ndarray], packed: bool = False) -> bytes:
    """A scan-line OpenEXR file of float16 or float32 channels, uncompressed or with ZIPS (a line a block)."""
    names = sorted(planes)
    height, width = planes[names[0]].shape
    kinds = {"float16": 1, "float32": 2}

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    channels = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", kinds[planes[name].dtype.name], 0, 1, 1) for name in names
    )
    box = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    head = struct.pack("<ii", 20000630, 2) + attribute("channels", "chlist", channels + b"\0")
    head += attribute("compression", "compression", b"\2" if packed else b"\0")
    head += attribute("dataWindow", "box2i", box) + attribute("displayWindow", "box2i", box)
    head += attribute("lineOrder", "lineOrder", b"\0") + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    head += attribute("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0))
    head += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    lines = [b"".join(planes[name][row].tobytes() for name in names) for row in range(height)]
    blocks = [_zips(line) if packed else line for line in lines]
    at, offsets, body = len(head) + 8 * height, [], b""
    for row, block in enumerate(blocks):
        offsets.append(at + len(body))
        body += struct.pack("<ii", row, len(block)) + block
    return head + struct.pack(f"<{height}Q", *offsets) + body


def _zips(line: bytes) -> bytes:
    """OpenEXR's ZIP: even and odd bytes apart, each as its difference from the one before, then zlib."""
    parted = np.frombuffer(line[::2] + line[1::2], np.uint8).astype(np.int16)
    parted[1:] = parted[1:] - parted[:-1] + 128
    packed = zlib.compress(parted.astype(np.uint8).tobytes())
    return packed if len(packed) < len(line) else line


def depth_png(pixels: np.ndarray) -> bytes:
    """(H, W) uint16 as a 16-bit grey PNG."""
    height, width = pixels.shape

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def wav(samples: np.ndarray, rate_hz: int = 8000) -> bytes:
    """(N, channels) int16 as a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()
