from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.store_servers import Store, environment, store
from tests.object_stores.sample import write_sample
from transforms.media import shared_decoder
from transforms.stores.paths import forget


@pytest.fixture(scope="session")
def s3_store() -> Iterator[Store]:
    """A real server; what tests write stays until all have run."""
    with store("s3") as found:
        yield found


@pytest.fixture(scope="session")
def gs_store() -> Iterator[Store]:
    """As `s3_store`."""
    with store("gs") as found:
        yield found


@pytest.fixture(params=["s3", "gs"])
def running(request: pytest.FixtureRequest) -> Store:
    """A server of each kind in turn."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


@pytest.fixture
def objects(running: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store, as the environment names it, with nothing known or kept of it."""
    for name, value in environment(running.scheme, running.proxy, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    running.proxy.forget()
    forget()
    shared_decoder().close()  # one that runs knows another store
    yield running
    shared_decoder().close()
    running.proxy.forget()
