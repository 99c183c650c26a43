"""The sample by the command of `make run` on a Ray cluster of two nodes: both work, and the bytes are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from beam_pipeline.__main__ import main
from examples.make_sample import make_sample
from tests.job import digests
from tests.processes import command_of, descendants
from tests.ray_nodes import two_nodes

ROOT = Path(__file__).parents[1]
COMMAND = (sys.executable, "-m", "beam_pipeline", "--config", "examples/sample.yaml", "--runner=RayRunner")
OUTPUTS = ("one", "two")
_BUSY = ("ray::BundleWorker.run", "ray::BundleWorker.merge", "ray::BundleWorker.index")
"""Titles of a worker at work: Ray sets them to the method that runs."""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counter[int]]:
    """The folder of both outputs; and by node how often a worker of it was seen at work in the run on two nodes."""
    folder = tmp_path_factory.mktemp("nodes")
    make_sample(folder / "in", 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMPLE", str(folder / "in"))
        assert main(["--config", str(ROOT / "examples/sample.yaml"), "--output", str(folder / "one")]) == 0
    seen = Counter(dict.fromkeys(range(2), 0))
    with two_nodes(folder / "token") as cluster:
        assert len(cluster.list_all_nodes()) == 2
        _run(folder, cluster.address, meanwhile=lambda: seen.update(_at_work(cluster)))
    return folder, seen


def _run(folder: Path, address: str, meanwhile: Callable[[], None]) -> None:
    """Run the command on a cluster, and do something else again and again until it ends."""
    # Ray would look for the cluster at the machine's outer address, unless it may not make clusters of machines
    variables = {"SAMPLE": str(folder / "in"), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    words = [*COMMAND, "--output", str(folder / "two"), f"--ray_address={address}"]
    log = folder / "two.log"
    with log.open("wb") as said:
        command = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **variables}, stdout=said, stderr=said)
    try:
        while command.poll() is None:
            meanwhile()
            time.sleep(0.02)
    finally:
        command.terminate()
    assert command.returncode == 0, log.read_text()


def _at_work(cluster: Cluster) -> list[int]:
    """The numbers of the nodes of which a worker is at work, once a worker."""
    raylets = [node.all_processes["raylet"][0].process.pid for node in (cluster.head_node, *cluster.worker_nodes)]
    return [
        number
        for number, raylet in enumerate(raylets)
        for pid in descendants(raylet)
        if command_of(pid).startswith(_BUSY)
    ]


def test_both_nodes_work(busy: tuple[Path, Counter[int]]) -> None:
    seen = busy[1]
    assert min(seen.values()) > 5, f"how often a worker of each node was seen at work: {dict(seen)}"


def test_the_bytes_are_those_of_one_machine(busy: tuple[Path, Counter[int]]) -> None:
    one, two = (digests(busy[0] / output) for output in OUTPUTS)
    assert len(one) > 10
    assert two == one


def test_the_manifests_name_the_same_files_rows_and_hashes(busy: tuple[Path, Counter[int]]) -> None:
    one, two = (json.loads((busy[0] / output / "_manifest.json").read_text()) for output in OUTPUTS)
    assert two == one
