"""Publishing to a store, against moto and fake-gcs-server: read back by DuckDB and hashes, not by the publisher."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.output_folder import OutputError
from beam_pipeline.store_output import Published, publish_to_store
from benchmarks.store_servers import Store
from tests.factories import motion, write_isaac
from tests.job import read_ledger, write_config
from transforms.stores.access import look_into, read_whole

SOURCE = "  - {name: lab, path: in, format: isaac_hdf5, embodiment: panda}"


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two output folders of one configuration: the same input, then one demo more."""
    folder = tmp_path_factory.mktemp("curated")
    write_isaac(folder / "in/demos.hdf5", {0: motion(1), 1: motion(2)})
    config = write_config(folder, SOURCE)
    first, second = folder / "first", folder / "second"
    assert main(["--config", str(config), "--output", str(first)]) == 0
    write_isaac(folder / "in/demos.hdf5", {0: motion(1), 1: motion(2), 2: motion(3)})
    assert main(["--config", str(config), "--output", str(second)]) == 0
    return first, second


def manifests(url: str) -> list[str]:
    return sorted(look_into(f"{url}/_manifests"))


def test_a_published_folder_comes_back_with_the_same_bytes(
    objects: Store, curated: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = objects.url("whole/set")
    assert main(["publish", str(curated[0]), url]) == 0
    assert "manifest 1" in capsys.readouterr().out
    said = json.loads(read_whole(f"{url}/_manifests/00000001.json"))
    assert said["number"] == 1 and said["previous"] is None
    local = json.loads((curated[0] / "_manifest.json").read_bytes())
    hashes = {hashlib.sha256((curated[0] / file["path"]).read_bytes()).hexdigest() for file in local["files"]}
    assert {hashlib.sha256(read_whole(f"{url}/{file['path']}")).hexdigest() for file in said["files"]} == hashes
    assert all(file["hash"][:16] in file["path"] for file in said["files"])

    assert main(["publish", "--fetch", url, str(tmp_path / "back")]) == 0
    assert read_ledger(tmp_path / "back") == read_ledger(curated[0])
    assert main(["split", "--output", str(tmp_path / "back")]) == 0


def test_publishing_again_adds_nothing_and_other_content_a_manifest(objects: Store, curated: tuple[Path, Path]) -> None:
    url = objects.url("again/set")
    assert publish_to_store(curated[0], url).new
    again = publish_to_store(curated[0], url)
    assert not again.new and again.uploaded == 0 and manifests(url) == ["00000001.json"]
    before = json.loads(read_whole(f"{url}/_manifests/00000001.json"))
    more = publish_to_store(curated[1], url)
    assert more.new and more.manifest.number == 2 and more.manifest.previous == 1
    assert manifests(url) == ["00000001.json", "00000002.json"]
    for file in before["files"]:
        assert len(read_whole(f"{url}/{file['path']}")) == file["bytes"], "an earlier manifest goes on being readable"


def test_an_earlier_run_is_fetched_by_its_number_and_published_again(
    objects: Store, curated: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = objects.url("back/set")
    for folder in curated:
        publish_to_store(folder, url)
    before, worse = (json.loads(read_whole(f"{url}/_manifests/{n:08d}.json")) for n in (1, 2))
    assert before["files"] != worse["files"]
    assert main(["publish", "--fetch", url, str(tmp_path / "back"), "--manifest", "1"]) == 0
    assert read_ledger(tmp_path / "back") == read_ledger(curated[0])
    assert main(["publish", str(tmp_path / "back"), url]) == 0
    newest = json.loads(read_whole(f"{url}/_manifests/{manifests(url)[-1]}"))
    assert (newest["number"], newest["previous"]) == (3, 2) and newest["files"] == before["files"]
    capsys.readouterr()
    assert main(["publish", "--fetch", url, str(tmp_path / "none"), "--manifest", "4"]) == 1
    assert "holds the manifests 1 to 3, not 4" in capsys.readouterr().err
    assert main(["publish", str(tmp_path / "back"), url, "--manifest", "1"]) == 2
    assert "--manifest goes with --fetch" in capsys.readouterr().err


def test_of_two_racing_runs_one_wins_and_equal_ones_both_do(objects: Store, curated: tuple[Path, Path]) -> None:
    def race(url: str, folders: tuple[Path, Path]) -> list[Published | OutputError]:
        ended: list[Published | OutputError] = []
        start = threading.Barrier(2)

        def publish(folder: Path) -> None:
            start.wait()
            try:
                ended.append(publish_to_store(folder, url))
            except OutputError as error:
                ended.append(error)

        threads = [threading.Thread(target=publish, args=(folder,)) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return ended

    equal = race(objects.url("race/equal"), (curated[0], curated[0]))
    assert all(isinstance(one, Published) for one in equal)
    assert manifests(objects.url("race/equal")) == ["00000001.json"]
    url = objects.url("race/other")
    ended = race(url, curated)
    lost = [one for one in ended if isinstance(one, OutputError)]
    assert manifests(url) in (["00000001.json"], ["00000001.json", "00000002.json"])
    assert len(lost) == 2 - len(manifests(url))
    assert all("another run committed to the store first" in str(error) for error in lost)
    newest = json.loads(read_whole(f"{url}/_manifests/{manifests(url)[-1]}"))
    for file in newest["files"]:
        assert len(read_whole(f"{url}/{file['path']}")) == file["bytes"]


def test_a_manifest_that_lost_its_answer_is_found_to_be_ours(objects: Store, curated: tuple[Path, Path]) -> None:
    url = objects.url("cut/set")
    objects.proxy.break_next(
        "cut", only="ifGenerationMatch=0" if objects.scheme == "gs" else "PUT /recordings/cut/set/_m"
    )
    done = publish_to_store(curated[0], url)
    assert not objects.proxy.faults
    assert done.new and done.manifest.number == 1 and manifests(url) == ["00000001.json"]


def test_what_is_refused_says_what_to_do(
    objects: Store, curated: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects.put("foreign/notes.txt", curated[0] / "_manifest.json")
    assert main(["publish", str(curated[0]), objects.url("foreign")]) == 1
    assert "'notes.txt'" in capsys.readouterr().err
    assert main(["publish", str(tmp_path), objects.url("empty")]) == 1
    assert "holds no published run" in capsys.readouterr().err
    assert main(["publish", str(curated[0]), "ftp://host/set"]) == 2
    assert "no URL of a store; give gs:// or s3://" in capsys.readouterr().err
    assert main(["publish", "--fetch", objects.url("nothing"), str(tmp_path / "back")]) == 1
    assert "holds no published run" in capsys.readouterr().err
    changed = tmp_path / "changed"
    shutil.copytree(curated[0], changed)
    next((changed / "episodes").rglob("*.parquet")).write_bytes(b"PAR1")
    assert main(["publish", str(changed), objects.url("changed")]) == 1
    assert "is not what its manifest names any more" in capsys.readouterr().err
