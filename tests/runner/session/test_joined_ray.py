from __future__ import annotations

import re
import socket

import pytest
import ray
from ray._private import services

from beam_pipeline.runner.session.joined_ray import joined
from tests.runner.session.conftest import Cluster


def test_a_cluster_is_joined_with_its_token_and_left_running(cluster: Cluster, with_token: None) -> None:
    for _ in range(2):
        with joined(cluster.address):
            assert ray.cluster_resources()["CPU"] == 2
        assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, r"there is no token for --ray_address=ADDRESS; set RAY_AUTH_TOKEN .* or RAY_AUTH_TOKEN_PATH"),
        ({"RAY_AUTH_TOKEN": "f" * 48}, r"the cluster at --ray_address=ADDRESS refuses this token; set RAY_AUTH_TOKEN"),
        (
            {"RAY_AUTH_TOKEN_PATH": "/no/token"},
            r"the token for --ray_address=ADDRESS cannot be read \(.*/no/token\); set RAY_AUTH_TOKEN",
        ),
        (
            {"RAY_AUTH_MODE": "disabled"},
            r"RAY_AUTH_MODE=disabled turns token authentication off, which --ray_address=ADDRESS needs; unset it",
        ),
    ],
)
def test_without_the_right_token_nobody_joins(
    cluster: Cluster, remote: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PermissionError, match=told.replace("ADDRESS", re.escape(cluster.address))):  # noqa: SIM117
        with joined(cluster.address):
            pass
    assert not ray.is_initialized()


def test_a_cluster_that_takes_anybody_is_refused(open_cluster: Cluster, with_token: None) -> None:
    told = rf"the cluster at --ray_address={open_cluster.address} asks for no token, .* start it anew"
    with pytest.raises(PermissionError, match=told), joined(open_cluster.address):
        pass


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_told_at_once(with_token: None, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"no Ray answers at --ray_address={address} .*ray start --head"):  # noqa: SIM117
        with joined(address):
            pass


def test_auto_without_a_cluster_names_the_remedies(
    with_token: None, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # other Rays may run on this machine
    monkeypatch.setattr(services, "get_ray_address_from_environment", _none_found)
    with pytest.raises(ConnectionError, match=r"--ray_address=auto .*HOST:PORT"), joined("auto"):
        pass


def _none_found(*_: object) -> str:
    raise ConnectionError("Could not find any running Ray instance.")


def test_auto_joins_the_cluster_of_the_environment(
    cluster: Cluster, with_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    with joined("auto"):
        assert ray.cluster_resources()["CPU"] == 2
