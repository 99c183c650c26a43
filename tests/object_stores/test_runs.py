"""Whole runs over sources on a store, published to it: the bytes are those of a run over local files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from benchmarks.store_servers import Store
from tests.factories import motion, write_lerobot_v21
from tests.job import Job, digests, run_job
from tests.object_stores.sample import FOLDERS

GAP = "gap"


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
    beside = ("_", "report_frames")  # the evidence and the report's pictures stay in the local folder
    assert digests(tmp_path / "back") == {name: found for name, found in local.items() if not name.startswith(beside)}
