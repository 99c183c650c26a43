from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import grpc
import pytest
import ray

from beam_pipeline.runner.session import local_ray
from beam_pipeline.runner.session.local_ray import LocalRay, check_ray_version
from tests.processes import descendants


def _listening(pids: set[int]) -> set[str]:
    """Addresses, as the kernel writes them, at which processes listen for TCP."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if found := re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink())):
                    inodes.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                addresses.add(fields[1].partition(":")[0])
    return addresses


def test_a_node_listens_on_the_loopback_asks_for_a_token_and_leaves_nothing(
    tmp_path: Path, remote: pytest.MonkeyPatch
) -> None:
    before, others = dict(os.environ), set(descendants(os.getpid()))
    node = LocalRay(num_cpus=3, object_store_bytes=100_000_000, spill_dir=tmp_path)
    try:
        assert ray.cluster_resources()["CPU"] == 3
        assert ray.get(ray.remote(lambda: 4).remote()) == 4
        family = set(descendants(os.getpid())) - others
        assert _listening(family) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert token.stat().st_mode & 0o777 == 0o600
        address = ray.get_runtime_context().gcs_address
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        node.close()
    # workers end by themselves once their node is gone
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in family):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not token.exists() and not list(tmp_path.glob("beam-ray-*"))
    assert dict(os.environ) == before and not ray.is_initialized()


def test_the_users_token_is_kept(tmp_path: Path, with_token: None, token: Path) -> None:
    node = LocalRay(num_cpus=1, object_store_bytes=100_000_000, spill_dir=tmp_path)
    try:
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    finally:
        node.close()


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    monkeypatch.setattr(local_ray, "_START_LIMIT_S", -1.0)
    with pytest.raises((TimeoutError, ray.exceptions.RpcError)):
        LocalRay(num_cpus=1, object_store_bytes=100_000_000, spill_dir=tmp_path)
    assert not list(tmp_path.glob("beam-ray-*"))
    assert dict(os.environ) == before and not ray.is_initialized()


def test_another_ray_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "__version__", "2.1.0")
    with pytest.raises(RuntimeError, match=r"Ray 2\.1\.0 is installed .* install ray==2\.60\.0 or start Ray yourself"):
        check_ray_version()
