"""The index gives night by night the edges of one search over all; where it does not fit, it is made anew."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from beam_pipeline.config import PipelineConfig
from beam_pipeline.deduplication.episode_index import MANIFEST, EpisodeIndex, open_index
from beam_pipeline.evidence_folder import SourceRecord, shingle_files, source_folder
from beam_pipeline.output_folder import read_record
from beam_pipeline.pipeline import MultimodalPipeline
from beam_pipeline.work import Work
from transforms.coders import to_json
from transforms.deduplication.agreement import verify
from transforms.deduplication.clusters import clusters
from transforms.deduplication.deduplicator import DedupParams, GPUDeduplicator
from transforms.deduplication.document_files import NIGHT
from transforms.deduplication.fingerprint import text_shingles
from transforms.evidence import DuplicateEdge, Fingerprint, FrameSample
from transforms.file_hash import file_hash
from transforms.frame_hashes import HASH_BYTES
from transforms.measured import SHINGLES_SCHEMA, STORE
from transforms.output_files import PartReport
from transforms.reports import EDGES, WriteReports, read_edges

PARAMS = DedupParams(partitions=3)
INDEX = f"{STORE}/duplicates"
TEXTS = ("", "pick up the red cube", "Pick up the red cube!", "open the drawer")


def frames(shingles: np.ndarray, seed: int) -> tuple[FrameSample, ...]:
    """A camera that shows something at eight places of the path."""
    hashes = np.random.default_rng(seed).integers(0, 256, (8, HASH_BYTES), np.uint8)
    return (FrameSample("front", shingles[:8].astype("<u8").tobytes(), hashes.tobytes()),)


def corpus(seed: int, motions: int, copies: int) -> list[Fingerprint]:
    """Motions and near copies of them under any text, half filmed, some filmed elsewhere; equal contents; shuffled."""
    rng = np.random.default_rng(seed)
    found = []
    for motion in range(motions):
        base = np.sort(rng.integers(0, 2**63, 60, np.int64)).astype(np.uint64)
        for _ in range(int(rng.integers(1, copies + 1))):
            own = base.copy()
            own[rng.choice(np.arange(8, 60), int(rng.integers(0, 16)), replace=False)] += 1
            text = TEXTS[rng.integers(len(TEXTS))]
            seen = frames(base, motion + 1000 * int(rng.integers(2))) if rng.random() < 0.5 else ()
            name = f"{len(found):04d}"
            body = np.unique(own).astype("<u8").tobytes()
            found.append(Fingerprint(name, f"content {name}", text, text_shingles(text).tobytes(), body, seen))
    for place in rng.choice(len(found), len(found) // 8, replace=False):
        found.append(replace(found[place], episode_id=f"{len(found):04d}"))
    return [found[place] for place in rng.permutation(len(found))]


def store(output: Path, source: str, found: Sequence[Fingerprint], parts: int = 1, night: int = 0) -> None:
    """Fingerprints as stored evidence of a source, in place of what it had."""
    target = source_folder(output, source)
    shutil.rmtree(target, ignore_errors=True)
    ordered = sorted(found, key=lambda one: one.episode_id)
    cuts = np.linspace(0, len(ordered), parts + 1).astype(int)
    reports = []
    for part in range(parts):
        own = ordered[cuts[part] : cuts[part + 1]]
        path = target / "files" / f"shingles-{part:05d}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        schema = SHINGLES_SCHEMA.with_metadata({NIGHT: str(night).encode()}) if night else SHINGLES_SCHEMA
        with pa.ipc.new_file(path, schema) as writer:
            writer.write_table(pa.Table.from_pylist([asdict(one) for one in own], schema=schema))
        reports.append(PartReport(path.name, len(own), path.stat().st_size, file_hash(path), source))
    record = SourceRecord(source, "files", "1", {}, tuple(reports))
    (target / "source.json").write_bytes(to_json(record))


def search(output: Path, params: DedupParams = PARAMS) -> tuple[list[DuplicateEdge], str]:
    """The edges that a run gets, and what it says."""
    said = io.StringIO()
    config = PipelineConfig(sources=(), deduplication=params)
    pipeline = MultimodalPipeline(config, Console(file=said, width=1000))
    edges = pipeline.find_duplicates(Work(config, Console(quiet=True), "FnApiRunner", None), output)
    return edges, said.getvalue()


def full(output: Path, scratch: Path, params: DedupParams = PARAMS) -> list[DuplicateEdge]:
    """The edges of one search over all that is stored, without an index."""
    with beam.Pipeline("FnApiRunner") as pipeline:
        files = pipeline | beam.Create([str(path) for path, _ in shingle_files(output)])
        _ = files | GPUDeduplicator(params) | WriteReports(str(scratch), EDGES)
    return read_edges(scratch)


def in_order(edges: Sequence[DuplicateEdge]) -> list[DuplicateEdge]:
    return sorted(edges, key=lambda edge: (edge.a, edge.b, edge.channel))


def manifest(output: Path) -> EpisodeIndex:
    return read_record(output / INDEX / MANIFEST, EpisodeIndex)


def brought(output: Path) -> list[int]:
    """Fingerprints of each night."""
    return [night.count for night in manifest(output).nights]


def test_every_night_has_the_edges_of_one_search_over_all(tmp_path: Path) -> None:
    """A source a night, and one that is measured again each night with more in it, cut into other files."""
    found = corpus(1, 60, 5)
    output, size = tmp_path / "out", len(found) // 10
    nights = [found[i * size : (i + 1) * size] for i in range(10)]
    grown: list[Fingerprint] = []
    for night in range(5):
        grown += nights[2 * night]
        store(output, "grows", grown, parts=1 + night % 3)
        store(output, f"night{night}", nights[2 * night + 1], parts=2)
        edges, said = search(output)
        assert said == ""
        expected = in_order(full(output, tmp_path / f"full{night}"))
        assert in_order(edges) == expected
        assert brought(output) == [2 * size] * (night + 1)
        assert in_order(search(output)[0]) == expected, "nothing new: the same again"
    known = {one.episode_id: one for one in found}
    near = [edge for edge in expected if edge.channel == "trajectory"]
    assert near == [verify(known[edge.a], known[edge.b], PARAMS) for edge in near]
    assert {edge.channel for edge in expected} == {"exact", "trajectory"}
    assert {edge.relabelled for edge in expected} == {True, False}
    assert {edge.frames is None for edge in expected} == {True, False}
    names = {one.episode_id for one in grown}
    across = {(edge.a in names, edge.b in names) for edge in expected}
    assert len(across) == 4, "copies lie in and between both"
    runs = [path.name for path in (output / INDEX / "runs").iterdir()]
    assert len(manifest(output).runs) <= 3 and len(runs) <= 2
    assert not list((output / INDEX).rglob("tmp"))


def test_buckets_beyond_the_limit_have_the_edges_of_a_search_that_knows_the_nights(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    base = np.sort(rng.integers(0, 2**63, 80, np.int64)).astype(np.uint64)
    found = []
    for copy in range(60):
        own = base.copy()
        own[rng.choice(80, 3, replace=False)] += 1
        found.append(Fingerprint(f"{copy:04d}", f"{copy}", "", b"", np.unique(own).astype("<u8").tobytes()))
    params = replace(PARAMS, max_bucket=4)
    for night in range(4):
        store(tmp_path / "out", f"s{night}", found[night::4])
        store(tmp_path / "known", f"s{night}", found[night::4], night=night)
        edges, _ = search(tmp_path / "out", params)
    assert in_order(edges) == in_order(full(tmp_path / "known", tmp_path / "full", params))
    once = clusters(full(tmp_path / "out", tmp_path / "once", params))
    assert [c.members for c in clusters(edges)] == [c.members for c in once] and len(once) == 1
    assert len(edges) < 60 * 59 / 2, "not all pairs were compared"


@pytest.fixture
def two_nights(tmp_path: Path) -> Path:
    found = corpus(2, 20, 4)
    for night in range(2):
        store(tmp_path / "out", f"s{night}", found[night::2])
        search(tmp_path / "out")
    return tmp_path / "out"


def test_other_settings_make_it_anew_and_say_which(two_nights: Path) -> None:
    stricter = replace(PARAMS, trajectory_jaccard=0.9, block_bytes=5000)
    edges, said = search(two_nights, stricter)
    assert said == (
        "the index of duplicate episodes is made anew: deduplication.trajectory_jaccard was 0.5, is 0.9\n"
    ), "how much is signed at once changes no edge"
    assert in_order(edges) == in_order(full(two_nights, two_nights / "full", stricter))
    assert len(brought(two_nights)) == 1


def test_what_is_gone_or_changed_in_the_evidence_makes_it_anew(two_nights: Path) -> None:
    found = corpus(2, 20, 4)
    store(two_nights, "s1", [replace(found[1], instruction="another"), *found[3::2]])
    edges, said = search(two_nights)
    assert said.startswith("the index of duplicate episodes is made anew: fingerprints of it are now others in ")
    assert said.endswith("source=s1/files/shingles-00000.arrow\n")
    assert in_order(edges) == in_order(full(two_nights, two_nights / "full"))
    shutil.rmtree(source_folder(two_nights, "s0"))
    edges, said = search(two_nights)
    gone = len(found[0::2])
    assert f"made anew: {gone} of its {len(found)} fingerprints are no longer in the evidence" in said
    assert in_order(edges) == in_order(full(two_nights, two_nights / "full"))
    assert brought(two_nights) == [len(found) - gone]


def test_a_damaged_index_is_made_anew(two_nights: Path) -> None:
    expected = in_order(search(two_nights)[0])
    run = max((two_nights / INDEX).rglob("bands/*.arrow"))
    size = run.stat().st_size
    run.write_bytes(run.read_bytes()[:-8])
    edges, said = search(two_nights)
    assert f"made anew: {run} is gone, or has not the {size} bytes that were written" in said
    assert in_order(edges) == expected
    (two_nights / INDEX / MANIFEST).write_text("{")
    edges, said = search(two_nights)
    assert f"made anew: {two_nights / INDEX / MANIFEST} is damaged" in said
    assert in_order(edges) == expected


def test_a_night_that_was_killed_leaves_nothing_half(two_nights: Path) -> None:
    index, before = two_nights / INDEX, two_nights / "before"
    shutil.copytree(index, before)
    more = [replace(one, episode_id=f"x{one.episode_id}", content_id=f"x{one.episode_id}") for one in corpus(2, 20, 4)]
    store(two_nights, "s2", more)
    assert len(open_index(two_nights, PARAMS, version("demosift")).documents) == 1  # killed before it was searched
    assert (index / "night=00002/documents").exists()
    edges, said = search(two_nights)
    expected = in_order(full(two_nights, two_nights / "full"))
    assert (in_order(edges), said, len(brought(two_nights))) == (expected, "", 3)
    shutil.copytree(before, index, dirs_exist_ok=True)  # killed before its commit: all is written, nothing cleared
    edges, said = search(two_nights)
    assert (in_order(edges), said, len(brought(two_nights))) == (expected, "", 3)
