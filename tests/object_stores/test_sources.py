"""Sources on stores, against moto and fake-gcs-server: every format, and what is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from benchmarks.store_corpora import LargeFile, hdf5, parquet
from benchmarks.store_servers import Store
from tests.job import write_config
from tests.object_stores.reading import read
from transforms.conventions import Source
from transforms.episode import Recording
from transforms.loader import plan


@pytest.fixture(scope="module")
def local(sample: Path) -> list[tuple[Recording, list[bytes]]]:
    return read(str(sample))


def test_every_format_reads_as_from_local_files(
    objects: Store, sample: Path, local: list[tuple[Recording, list[bytes]]]
) -> None:
    url = objects.put_folder("formats", sample)
    stored = read(url)
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


def test_patterns_name_what_they_name_locally(objects: Store, sample: Path) -> None:
    url = objects.put_folder("patterns", sample)
    for pattern in ("*/*.hdf5", "**/*.hdf5", "bags/*.[mb]*", "lerobot", "nothing/*"):
        found = [ref.uri.removeprefix(url) for ref in plan(Source("lab", f"{url}/{pattern}"))]
        assert found == [ref.uri.removeprefix(str(sample)) for ref in plan(Source("lab", f"{sample}/{pattern}"))]


@pytest.fixture(scope="module", params=[hdf5, parquet], ids=["hdf5", "parquet"])
def large(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LargeFile:
    found: LargeFile = request.param(tmp_path_factory.mktemp("large") / "in", 60.0)
    return found


def test_an_episode_out_of_a_large_file_fetches_its_bytes(objects: Store, large: LargeFile) -> None:
    url = objects.put_folder(f"large-{large.name}", large.folder)
    objects.proxy.forget()
    every_other = range(1, len(large.bytes_of), 2)
    assert len(read(url, frozenset(every_other))) == 25
    assert objects.proxy.bytes_of("") <= 1.1 * sum(large.bytes_of[number] for number in every_other)


def test_nothing_at_a_url_is_told(objects: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, f"  - {{name: lab, path: '{objects.url('nowhere')}', embodiment: panda}}")
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert f"there is nothing at {objects.url('nowhere')}" in capsys.readouterr().err
