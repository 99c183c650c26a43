"""Reads a data set at an address by TensorFlow and prints what it gives, in a process that a file system may end.

python -m tests.tensorflow.read_address ADDRESS
"""

from __future__ import annotations

import hashlib
import json
import os
import sys

from transforms.coders import to_ipc
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording
from transforms.sources import rlds_tensorflow


def told(recording: Recording, picture: bytes) -> list[str]:
    """Id, and hashes of steps, of all pictures together and of the fourth picture alone."""
    steps = hashlib.sha256(to_ipc(recording.streams["steps"])).hexdigest()
    ref = recording.videos["image"]
    return [recording.recording_id, steps, ref.content_hash, hashlib.sha256(picture).hexdigest()]


def main() -> None:
    """Print a line of JSON and end at once: TensorFlow's S3 file system aborts in its destructor."""
    found = []
    for recording in rlds_tensorflow.recordings(sys.argv[1], Source("toy", sys.argv[1]), Embodiment(rate_hz=20)):
        (picture,) = rlds_tensorflow.read_images(recording.videos["image"], [3])
        found.append(told(recording, picture))
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
