"""Deduplication against brute force, for any order, and what instructions may and may not do."""

import tempfile
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from transforms.deduplication.agreement import verify
from transforms.deduplication.clusters import clusters
from transforms.deduplication.deduplicator import EPISODES, DedupParams, GPUDeduplicator
from transforms.deduplication.document_files import DocumentFiles
from transforms.deduplication.fingerprint import text_shingles
from transforms.deduplication.union_find import components
from transforms.evidence import DuplicateCluster, DuplicateEdge, Fingerprint
from transforms.measured import SHINGLES_SCHEMA


def fingerprint(name: str, numbers, text: str = "", content: str = "") -> Fingerprint:
    shingles = np.array(sorted(set(numbers)), "<u8").tobytes()
    return Fingerprint(name, content or f"content of {name}", text, text_shingles(text).tobytes(), shingles)


def brute_force(found: list[Fingerprint], params: DedupParams) -> list[DuplicateCluster]:
    groups: dict[str, list[Fingerprint]] = {}
    for one in sorted(found, key=lambda f: f.episode_id):
        groups.setdefault(one.content_id, []).append(one)
    edges = [DuplicateEdge(g[0].episode_id, o.episode_id, "exact", 1.0) for g in groups.values() for o in g[1:]]
    edges += [
        edge for a, b in combinations([g[0] for g in groups.values()], 2) if (edge := verify(a, b, params)) is not None
    ]
    roots = components((edge.a, edge.b) for edge in edges)
    grouped = []
    for smallest in sorted(set(roots.values())):
        own = sorted((e for e in edges if roots[e.a] == smallest), key=lambda e: (e.a, e.b, e.channel))
        members = sorted(member for member, its in roots.items() if its == smallest)
        grouped.append(DuplicateCluster(smallest, tuple(members), tuple(own)))
    return grouped


def shingle_files(folder: Path, found: list[Fingerprint], files: int) -> list[str]:
    """Fingerprints dealt out over some files, each sorted by id as stored evidence is."""
    paths = []
    for index in range(files):
        own = sorted(found[index::files], key=lambda f: f.episode_id)
        table = pa.Table.from_pylist([asdict(one) for one in own], schema=SHINGLES_SCHEMA)
        path = folder / f"shingles-{index:05d}.arrow"
        with pa.ipc.new_file(path, SHINGLES_SCHEMA) as writer:
            writer.write_table(table)
        paths.append(str(path))
    return paths


def check(
    found: list[Fingerprint], params: DedupParams, expected: list[DuplicateCluster], workers: int = 1, files: int = 2
) -> None:
    options = PipelineOptions(direct_running_mode="in_memory", direct_num_workers=workers)

    def hold(edges: list[DuplicateEdge]) -> None:
        assert clusters(edges) == expected

    with tempfile.TemporaryDirectory() as name, Pipeline(FnApiRunner(), options=options) as pipeline:
        paths = shingle_files(Path(name), found, files)
        edges = pipeline | "Make" >> beam.Create(paths, reshuffle=False) | "Dedup" >> GPUDeduplicator(params)
        assert_that(edges, hold)


@st.composite
def corpora(draw):
    """Episodes around a few motions: the base with a few shingles exchanged, some of one content, several texts."""
    found = []
    for index in range(draw(st.integers(0, 30))):
        base = draw(st.integers(0, 7)) * 1000
        replaced = draw(st.sets(st.integers(0, 39), max_size=8))
        numbers = [base + n if n not in replaced else 10_000 * (index + 1) + n for n in range(40)]
        if draw(st.integers(0, 9)) == 0:
            numbers = []
        text = draw(st.sampled_from(["", "pick up the red cube", "Pick up the red cube!", "open the drawer"]))
        found.append(fingerprint(f"s/{index:02d}", numbers, text))
    for index in draw(st.lists(st.integers(0, max(len(found) - 1, 0)), max_size=3)) if found else []:
        twin = found[index]
        name = f"t/{len(found):02d}"
        found.append(
            Fingerprint(name, twin.content_id, twin.instruction, twin.instruction_shingles, twin.trajectory_shingles)
        )
    return draw(st.permutations(found))


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(corpora())
def test_clusters_are_those_of_brute_force_for_any_order(found):
    params = DedupParams(bands=128, rows=2, block_bytes=1000)
    check(found, params, brute_force(found, params))


def test_two_workers_and_other_partitions_give_the_same_clusters():
    rng = np.random.default_rng(3)
    found = []
    for motion in range(20):
        base = rng.integers(0, 2**63, 100).tolist()
        for copy in range(3):
            found.append(fingerprint(f"s/{motion:02d}.{copy}", base[copy * 3 :], "pick"))
    params = DedupParams()
    expected = brute_force(found, params)
    assert len(expected) == 20
    check(found[::-1], DedupParams(partitions=3, block_bytes=5000), expected, workers=2, files=5)


def test_the_same_text_alone_links_nothing():
    found = [fingerprint("a", range(100), "pick up the cube"), fingerprint("b", range(500, 600), "pick up the cube")]
    found += [fingerprint("c", [], "pick up the cube"), fingerprint("d", [], "pick up the cube")]
    check(found, DedupParams(), [])


def test_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match=r"episode a has no content_id; fill it"):
        paths = shingle_files(tmp_path, [Fingerprint("a", "", "")], 1)
        list(DocumentFiles(paths, EPISODES).contents(paths[0]))
    with pytest.raises(ValueError, match=r"dedup.trajectory_jaccard is 0; need 0 < trajectory_jaccard <= 1"):
        DedupParams(trajectory_jaccard=0)
    with pytest.raises(ValueError, match=r"dedup.block_bytes is 0; need at least 1"):
        DedupParams(block_bytes=0)
    with pytest.raises(ValueError, match=r"dedup.max_bucket is 1; need at least 2"):
        DedupParams(max_bucket=1)
