"""What counts as new: real folders, and a store in memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.airflow.conftest import ABSENT

pytest.importorskip("airflow", reason=ABSENT)

from airflow_dags.deployment import load_deployment
from airflow_dags.new_data import (
    Listing,
    Published,
    RecordError,
    Seen,
    list_files,
    look,
    newest_manifest,
    read_record,
    readiness,
    write_record,
)
from tests.airflow.test_deployment import GOOD, write


def listing(digest: str, files: int = 1, age_s: float = 1000.0) -> Listing:
    return Listing(files, digest, time.time() - age_s)


def test_a_listing_changes_with_names_sizes_and_times(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = list_files(str(tmp_path))
    assert first.files == 1
    assert first.newest_s == pytest.approx((tmp_path / "a").stat().st_mtime)
    assert list_files(str(tmp_path)) == first
    os.utime(tmp_path / "a", (1, 1))
    second = list_files(str(tmp_path))
    assert second.digest != first.digest
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_text("2")
    assert list_files(str(tmp_path)).files == 2
    assert list_files(f"{tmp_path}/*/b").files == 1
    assert list_files(str(tmp_path / "a")).files == 1
    assert list_files(str(tmp_path / "none")).files == 0


def test_a_store_by_its_address() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/bucket/in/a.mcap", b"abc")
    first = list_files("memory://bucket/in")
    assert first.files == 1
    fsspec.filesystem("memory").pipe("/bucket/in/b.mcap", b"abc")
    assert list_files("memory://bucket/in").digest != first.digest


@pytest.mark.parametrize(
    ("seen", "before", "ready", "sources", "why"),
    [
        ({"a": listing("1")}, {}, True, ("a",), "new recordings of a"),
        ({"a": listing("1")}, {"a": "1"}, False, (), "nothing is new since the last set was published"),
        ({"a": listing("1"), "b": listing("2")}, {"a": "1", "b": "1"}, True, ("b",), "new recordings of b"),
        ({"a": listing("1"), "b": listing("", 0)}, {}, False, (), "nothing lies yet where b arrives"),
        ({"a": listing("2"), "b": listing("", 0)}, {"a": "1", "b": "1"}, True, ("a",), "new recordings of a"),
        (
            {"a": listing("2", age_s=1)},
            {"a": "1"},
            False,
            (),
            "files are still being written: none may change for 60 s",
        ),
    ],
)
def test_when_a_run_is_due(
    seen: dict[str, Listing], before: dict[str, str], ready: bool, sources: tuple[str, ...], why: str
) -> None:
    found = readiness(Seen(seen, "c"), Published(before, "c"), settle_seconds=60)
    assert (found.ready, found.sources, found.why) == (ready, sources, why)


def test_another_configuration_is_decided_anew() -> None:
    found = readiness(Seen({"a": listing("1")}, "new"), Published({"a": "1"}, "old"), settle_seconds=60)
    assert (found.ready, found.sources) == (True, ())


def test_the_record_is_kept_beside_the_output(tmp_path: Path) -> None:
    deployment = load_deployment(write(tmp_path, GOOD))
    (tmp_path / "config.yaml").write_text("sources: []")
    published = Published({"kitchen": "1"}, look(deployment).config, "f")
    write_record(deployment, published)
    assert read_record(deployment) == Published(), "without a manifest nothing counts as published"
    manifests = tmp_path / "set" / "_manifests"
    manifests.mkdir(parents=True)
    (manifests / "00000002.json").write_text('{"number": 2, "files": [{"path": "a", "hash": "1"}]}')
    assert read_record(deployment) == published
    newest = newest_manifest(deployment.output)
    assert newest is not None and newest.number == 2
    (tmp_path / "set.published.json").write_text("{")
    with pytest.raises(RecordError, match=r"set\.published\.json is damaged .* remove it"):
        read_record(deployment)
