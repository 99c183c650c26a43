"""tensorflow-io's S3 file system against a server of moto on this machine: the same steps and pictures."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import rlds_example, write_rlds
from tests.tensorflow.read_address import told
from transforms.conventions import Embodiment, Source
from transforms.sources import rlds

ROOT = Path(__file__).parents[2]
STARTS_WITHIN_S = 60

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("moto") is None, reason="moto is not installed: requirements-tensorflow.txt has it"
)


def put(address: str, data: bytes) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(urllib.request.Request(address, data, kind, method="PUT"), timeout=30).read()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[str]:
    """The address of an empty object store on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with (tmp_path / "moto.log").open("w") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until = time.monotonic() + STARTS_WITHIN_S
        while True:
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=5).read()
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None and time.monotonic() < until, (tmp_path / "moto.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        server.kill()
        server.wait()


def test_s3_gives_the_same_steps_and_pictures(tmp_path: Path, store: str) -> None:
    folder = tmp_path / "toy"
    write_rlds(folder, [[rlds_example(seed) for seed in (0, 1)], [rlds_example(2)]])
    put(f"{store}/bucket", b"")
    for path in folder.iterdir():
        put(f"{store}/bucket/toy/1.0.0/{path.name}", path.read_bytes())
    access = {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "S3_ENDPOINT": store,
    }
    command = [sys.executable, "-m", "tests.tensorflow.read_address", "s3://bucket/toy/1.0.0"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **access}, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    source = Source("toy", str(folder))
    wanted = []
    for ref in rlds.plan(source, folder):
        recording = rlds.read(ref, source, Embodiment(rate_hz=20))
        (picture,) = rlds.read_images(recording.videos["image"], [3])
        wanted.append(told(recording, picture))
    assert json.loads(done.stdout) == wanted and len(wanted) == 3
    assert "GET /bucket/toy/1.0.0/toy-train.tfrecord-00001-of-00002" in (tmp_path / "moto.log").read_text()
