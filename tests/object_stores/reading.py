"""Recordings of a source as the pipeline reads them, with all their pictures."""

from __future__ import annotations

from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Recording, VideoRef
from transforms.loader import ReadRecording, plan, read_images
from transforms.media import shared_decoder

PANDA = {"panda": Embodiment(rate_hz=20)}


def read(root: str, only: frozenset[int] | None = None) -> list[tuple[Recording, list[bytes]]]:
    """The recordings of a source, and all their pictures."""
    source = Source("lab", root, embodiment="panda")
    reader = ReadRecording({"lab": source}, PANDA)
    reader.setup()
    found = []
    for number, ref in enumerate(plan(source)):
        if only is None or number in only:
            (recording,) = reader.process_element(ref)
            found.append((recording, [picture for shown in recording.videos.values() for picture in pictures(shown)]))
    return found


def pictures(shown: ImageRef | VideoRef) -> list[bytes]:
    if isinstance(shown, ImageRef):
        return read_images(shown, range(shown.count))
    return [chunk.frames.tobytes() for chunk in shared_decoder().decode_frames(shown)]
