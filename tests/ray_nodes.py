"""A Ray cluster of two nodes on the loopback that asks for a token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from beam_pipeline.runner.session.environment import environment


@contextlib.contextmanager
def two_nodes(token: Path, head_cpus: int = 1, settings: Mapping[str, int] | None = None) -> Iterator[Cluster]:
    """Two nodes with a CPU each, of which the head is one, or with a head without a CPU beside them.

    The token is written to the file `token`, and asked of this process meanwhile. `settings` are Ray's own.
    """
    token.write_text("0123456789abcdef" * 3, encoding="ascii")
    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "node_ip_address": "127.0.0.1"}
    head = {**node, "num_cpus": head_cpus, "include_dashboard": False, "_system_config": dict(settings or {})}
    with (
        environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}),
        pytest.MonkeyPatch.context() as patch,
    ):
        # Ray writes the loopback as the machine's outer address, unless it may not make clusters of machines
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)
        nodes = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2 - head_cpus):
                nodes.add_node(**node)
            yield nodes
        finally:
            nodes.shutdown()
