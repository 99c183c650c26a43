"""Sources on stores, against moto and fake-gcs-server: every format, whole runs, and what is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from benchmarks.store_corpora import LargeFile, hdf5, parquet
from benchmarks.store_servers import Store
from tests.factories import motion, write_lerobot_v21
from tests.job import Job, digests, run_job, write_config
from tests.object_stores.reading import read
from tests.object_stores.sample import FOLDERS
from transforms.conventions import Source
from transforms.loader import plan

GAP = "gap"


def test_every_format_reads_as_from_local_files(objects: Store, sample: Path) -> None:
    url = objects.put_folder("formats", sample)
    local, stored = read(str(sample)), read(url)
    assert len(local) == 10
    for (one, seen), (other, shown) in zip(local, stored, strict=True):
        assert (one.recording_id, one.format) == (other.recording_id, other.format)
        assert one.streams == other.streams
        assert seen == shown
        for what in ("utterances", "attributes", "success", "findings", "explicit", "conventions"):
            assert getattr(one, what) == getattr(other, what), (one.recording_id, what)
        assert other.uri == f"{url}/{Path(one.uri).relative_to(sample).as_posix()}"
    assert {one.format for one, _ in local} >= {
        "isaac_hdf5",
        "aloha_hdf5",
        "lerobot",
        "rlds",
        "mcap",
        "rosbag1",
        "video",
    }


def _curate(folder: Path, root: str, *flags: str) -> Job:
    """A run over all but the videos, whose episodes are known by a checksum of the store's there; and over `GAP`."""
    names = [name for name in FOLDERS if name not in ("lerobot", "video")]
    sources = "\n".join(f"  - {{name: {name}, path: '{root}/{name}', embodiment: panda}}" for name in (*names, GAP))
    return run_job(folder, sources, "\ngates: {max_rejected_fraction: 1}", *flags)


@pytest.fixture(scope="module")
def with_gap(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, and a set whose second episode is not there."""
    folder = tmp_path_factory.mktemp("with_gap") / "in"
    shutil.copytree(sample, folder)
    write_lerobot_v21(folder / GAP, {0: motion(3)}, video=False, listed=2)
    return folder


@pytest.fixture(scope="module")
def local_run(with_gap: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return _curate(tmp_path_factory.mktemp("local"), str(with_gap))


def test_a_run_over_a_store_writes_what_a_run_over_local_files_writes(
    objects: Store, with_gap: Path, local_run: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_ray = ("--runner=RayRunner", "--ray_workers_max=2") if objects.scheme == "gs" else ()
    url = objects.url("curated/set")
    stored = _curate(tmp_path, objects.put_folder("run", with_gap), "--publish", url, *on_ray)
    assert local_run.status == stored.status == 0
    assert stored.outcomes() == local_run.outcomes()
    assert digests(stored.output) == digests(local_run.output)
    missing = stored.ledger[f"{GAP}/train/000001"]
    assert (missing["outcome"], missing["rule"]) == ("quarantined", "declared_absent")

    assert "manifest 1" in capsys.readouterr().out
    assert main(["publish", "--fetch", url, str(tmp_path / "back")]) == 0
    local = digests(local_run.output)
    assert digests(tmp_path / "back") == {name: found for name, found in local.items() if not name.startswith("_")}


def test_patterns_name_what_they_name_locally(objects: Store, sample: Path) -> None:
    url = objects.put_folder("patterns", sample)
    for pattern in ("*/*.hdf5", "**/*.hdf5", "bags/*.[mb]*", "lerobot", "nothing/*"):
        found = [ref.uri.removeprefix(url) for ref in plan(Source("lab", f"{url}/{pattern}"))]
        assert found == [ref.uri.removeprefix(str(sample)) for ref in plan(Source("lab", f"{sample}/{pattern}"))]


@pytest.mark.parametrize("corpus", [hdf5, parquet], ids=["hdf5", "parquet"])
def test_an_episode_out_of_a_large_file_fetches_its_bytes(
    objects: Store, tmp_path: Path, corpus: Callable[[Path, float], LargeFile]
) -> None:
    large = corpus(tmp_path / "in", 60.0)
    url = objects.put_folder(f"large-{large.name}", large.folder)
    objects.proxy.forget()
    every_other = range(1, len(large.bytes_of), 2)
    assert len(read(url, frozenset(every_other))) == 25
    assert objects.proxy.bytes_of("") <= 1.1 * sum(large.bytes_of[number] for number in every_other)


def test_nothing_at_a_url_is_told(objects: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, f"  - {{name: lab, path: '{objects.url('nowhere')}', embodiment: panda}}")
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert f"there is nothing at {objects.url('nowhere')}" in capsys.readouterr().err
