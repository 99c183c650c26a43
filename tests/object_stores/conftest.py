from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.store_servers import Store, environment, store
from transforms.media import shared_decoder
from transforms.stores.paths import forget


@pytest.fixture(scope="session")
def s3_store() -> Iterator[Store]:
    """A real server; what tests write stays until all have run."""
    with store("s3") as found:
        yield found


@pytest.fixture(params=["s3", "gs"])
def running(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A real server of each kind; that of gs is a test's own, since one that has seen races may answer no more."""
    if request.param == "s3":
        yield request.getfixturevalue("s3_store")
        return
    with store("gs") as found:
        yield found


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
