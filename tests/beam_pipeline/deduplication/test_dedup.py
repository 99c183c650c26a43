"""The command on Parquet files of texts, against plain Python over all pairs."""

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import apache_beam as beam
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_pipeline.__main__ import main
from beam_pipeline.deduplication.job import DedupConfig, run_dedup
from tests.transforms.deduplication.documents import components, set_jaccard, text_shingles
from transforms.deduplication.deciding_duplicates import DecideParams
from transforms.deduplication.parquet_documents import DocumentColumns
from transforms.deduplication.whole_components import LABELLED, UNJOINED, WholeComponents

WORDS = [f"w{i}" for i in range(400)]


def texts(seed: int = 0, groups: int = 12) -> dict[str, str | None]:
    """Groups of near copies, exact copies, and texts that stand alone, are empty, have one word or no letters."""
    rng = np.random.default_rng(seed)
    held: dict[str, str | None] = {}
    for group in range(groups):
        base = rng.choice(WORDS, 120).tolist()
        for copy in range(4):
            words = list(base)
            for place in rng.choice(120, copy * 2, replace=False):
                words[place] = f"changed{group}"
            held[f"g{group:02d}.{copy}"] = " ".join(words)
        held[f"g{group:02d}.x"] = " ".join(base)
    held |= {"lone": " ".join(rng.choice(WORDS, 90)), "empty": "", "null": None, "word": "one", "word2": "one"}
    held |= {
        "marks": "?!",
        "naïve": "naïve café " * 20,
        "naïve2": "NAÏVE Café " * 20,
        "日": "日本語の文",
        "日2": "日本語の文",
    }
    return held


def write(path: Path, rows: dict[str, str | None], **columns: list) -> Path:
    pq.write_table(pa.table({"id": list(rows), "text": list(rows.values()), **columns}), path)
    return path


def dedup(output: Path, *inputs: Path, flags: tuple[str, ...] = ("--id", "id")) -> dict[str, list[dict]]:
    names = [str(path) for path in inputs]
    assert main(["dedup", "--output", str(output), "--text", "text", *flags, "--input", *names]) == 0
    return {
        name: pq.read_table(output / f"{name}.parquet").to_pylist()
        for name in ("kept", "duplicates", "clusters", "edges")
    }


def hashes(output: Path) -> list[dict]:
    return json.loads((output / "manifest.json").read_text())["files"]


def truth(rows: dict[str, str | None], threshold: float = 0.7) -> dict[tuple[str, str], float]:
    """All pairs whose 5-grams are alike enough, or whose texts are equal, by sets."""
    grams = {name: text_shingles(text or "", 5) for name, text in rows.items()}
    found = {}
    for a, b in combinations(sorted(rows), 2):
        similarity = set_jaccard(grams[a], grams[b])
        if rows[a] and (rows[a] == rows[b] or similarity >= threshold):
            found[a, b] = max(similarity, float(rows[a] == rows[b]))
    return found


def test_duplicates_are_those_of_brute_force(tmp_path):
    rows = texts()
    found = dedup(tmp_path / "out", write(tmp_path / "in.parquet", rows), flags=("--id", "id", "--rows", "4"))
    pairs = truth(rows)
    gone = {row["id"]: row for row in found["duplicates"]}
    kept = {row["id"] for row in found["kept"]}
    assert kept | set(gone) == set(rows)
    assert not kept & set(gone)
    assert kept >= {"lone", "empty", "null", "marks", "word"}
    for name, row in gone.items():
        pair = tuple(sorted((name, row["duplicate_of"])))
        assert row["duplicate_of"] in kept
        assert row["similarity"] == pytest.approx(pairs[pair])
        assert row["channel"] == ("exact" if rows[pair[0]] == rows[pair[1]] else "fuzzy")
    assert not [pair for pair in pairs if set(pair) <= kept]
    clusters = components(pairs)
    assert {row["cluster_id"]: row["documents"] for row in found["clusters"]} == {min(c): len(c) for c in clusters}
    assert {row["id"]: row["cluster_id"] for row in gone.values()} == {
        name: min(c) for c in clusters for name in c if name in gone
    }


def test_counts_sum_to_the_input_and_any_reader_opens_the_tables(tmp_path):
    rows = texts()
    source = ["a" if i % 2 else "b" for i in range(len(rows))]
    dedup(
        tmp_path / "out",
        write(tmp_path / "in.parquet", rows, source=source),
        flags=("--id", "id", "--source", "source"),
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["input"] == len(rows) == summary["kept"] + summary["exact"] + summary["near"]
    assert summary["without_text"] == 2
    assert summary["candidates"] >= summary["verified"] > 0
    for one in summary["sources"]:
        assert one["input"] == source.count(one["source"]) == one["kept"] + one["dropped"]
    count = duckdb.sql(f"select count(*), count(distinct id) from '{tmp_path}/out/kept.parquet'").fetchall()
    assert count == [(summary["kept"], summary["kept"])]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {file["path"]: file["rows"] for file in manifest["files"]}["kept.parquet"] == summary["kept"]


@pytest.mark.parametrize("runner", ["DirectRunner", "RayRunner"])
def test_the_same_bytes_on_every_runner_in_any_order_and_any_files(tmp_path, runner):
    rows = texts(groups=4)
    first = tmp_path / "first"
    dedup(first, write(tmp_path / "in.parquet", rows))
    names = np.random.default_rng(1).permutation(list(rows)).tolist()
    parts = [write(tmp_path / f"part{i}.parquet", {name: rows[name] for name in names[i::3]}) for i in range(3)]
    other = tmp_path / "other"
    dedup(other, *parts[::-1], flags=("--id", "id", "--runner", runner))
    assert hashes(other) == hashes(first)


def test_an_input_given_twice_is_refused(tmp_path, capsys):
    rows = {"a": "x y", "b": "z"}
    for name in ("one", "two"):
        write(tmp_path / f"{name}.parquet", rows)
    arguments = ["dedup", "--input", str(tmp_path / "*.parquet"), "--output", str(tmp_path / "out"), "--text", "text"]
    assert main([*arguments, "--id", "id"]) == 2
    assert "of 4 documents that were read 2 have the id and text of another; give each file" in capsys.readouterr().err
    write(tmp_path / "two.parquet", {"a": "x y", "b": "other"})
    assert main([*arguments, "--id", "id"]) == 2
    assert "id 'a' is that of more than one document (2 ids repeat); name a column" in capsys.readouterr().err


def test_quality_and_published_choose_who_stays(tmp_path):
    text = " ".join(WORDS[:50])
    rows = {"a": text, "b": text, "c": text + " more"}
    path = write(tmp_path / "in.parquet", rows, score=[1, 3, 2], out=[False, False, True])
    assert [row["id"] for row in dedup(tmp_path / "1", path)["kept"]] == ["a"]
    assert [row["id"] for row in dedup(tmp_path / "2", path, flags=("--id", "id", "--quality", "score"))["kept"]] == [
        "b"
    ]
    flags = ("--id", "id", "--quality", "score", "--published", "out")
    assert [row["id"] for row in dedup(tmp_path / "3", path, flags=flags)["kept"]] == ["c"]


def test_documents_without_ids_get_them_from_file_row_and_content(tmp_path):
    (tmp_path / "in" / "x").mkdir(parents=True)
    write(tmp_path / "in" / "x" / "a.parquet", {"1": "some text", "2": "other"})
    write(tmp_path / "in" / "b.parquet", {"1": "some text"})
    found = dedup(tmp_path / "out", tmp_path / "in", flags=())
    ids = sorted(row["id"] for row in found["kept"] + found["duplicates"])
    assert [name.split("-")[0] for name in ids] == [
        "b.parquet:000000000",
        "x/a.parquet:000000000",
        "x/a.parquet:000000001",
    ]
    assert ids[0].split("-")[1] == ids[1].split("-")[1] != ids[2].split("-")[1]
    assert [(row["id"], row["duplicate_of"]) for row in found["duplicates"]] == [(ids[1], ids[0])]


def test_templated_instructions_do_not_eat_the_source(tmp_path):
    rows = {
        f"{colour}.{thing}.{i}": f"please pick up the {colour} {thing} and put it on tray number {i} of the left shelf"
        for colour in ("red", "blue", "green")
        for thing in ("cube", "cup", "bowl")
        for i in range(20)
    }
    found = dedup(tmp_path / "out", write(tmp_path / "in.parquet", rows))
    assert not found["duplicates"] or max(row["documents"] for row in found["clusters"]) <= 60
    pairs = truth(rows)
    assert all(tuple(sorted((row["a"], row["b"]))) in pairs for row in found["edges"])


def test_a_guardrail_fails_the_run_and_publishes_nothing(tmp_path, capsys):
    path = write(tmp_path / "in.parquet", {str(i): "the same words" for i in range(20)})
    out = tmp_path / "out"
    arguments = ["dedup", "--input", str(path), "--output", str(out), "--text", "text", "--id", "id"]
    assert main(arguments) == 3
    said = capsys.readouterr().err
    assert "the input loses 19 of 20 documents (0.950), more than 0.9; raise --threshold" in said
    assert list(out.iterdir()) == []
    assert main([*arguments, "--max-removed", "1", "--max-cluster", "19"]) == 3
    assert "cluster '0' has 20 documents, more than 19; raise --threshold" in capsys.readouterr().err
    assert main([*arguments, "--max-removed", "1"]) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--text", "words"), "has no column 'words'; it has id, text, n"),
        (("--text", "n"), "column 'n' is int64, which is no text; name another column"),
        (("--text", "text", "--id", "twice"), "has no column 'twice'"),
        (("--text", "text", "--quality", "text"), "column 'text' is string, which is no number"),
        (("--text", "text", "--threshold", "0"), "dedup.threshold is 0.0; need 0 < threshold <= 1"),
        (("--text", "text", "--bands", "0"), "dedup.bands is 0; need at least 1"),
        (("--text", "text", "--max-removed", "2"), "--max-removed is 2.0; need 0 <= fraction <= 1"),
        (("--text", "text", "--max-cluster", "0"), "--max-cluster is 0; need at least 1 document"),
        (("--text", "text", "--treshold", "0.8"), "unknown flag --treshold"),
        (("--text", "text", "--id", "n"), "id '1' is that of more than one document (1 ids repeat); name a column"),
    ],
)
def test_bad_usage_is_told_before_or_after_and_exits_with_2(tmp_path, capsys, flags, said):
    path = write(tmp_path / "in.parquet", {"a": "x y", "b": "z"}, n=[1, 1])
    assert main(["dedup", "--input", str(path), "--output", str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_bad_input_is_told(tmp_path, capsys):
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no")
    out = str(tmp_path / "out")
    for inputs, said in (
        (tmp_path / "broken.parquet", "broken.parquet is no Parquet file"),
        (tmp_path / "absent.parquet", "absent.parquet names no Parquet file; give files, folders or patterns"),
    ):
        assert main(["dedup", "--input", str(inputs), "--output", out, "--text", "text"]) == 2
        assert said in capsys.readouterr().err
    path = write(tmp_path / "in.parquet", {"a": "x"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    assert main(["dedup", "--input", str(path), "--output", str(tmp_path / "mine"), "--text", "text"]) == 2
    assert "holds 1 entries that no search wrote there, such as 'thesis.txt'" in capsys.readouterr().err
    assert main(["dedup", "--input", str(path), "--output", str(tmp_path), "--text", "text"]) == 2
    assert "lies in --output" in capsys.readouterr().err


def test_vectors_are_compared_by_cosine_and_quality_chooses(tmp_path):
    rng = np.random.default_rng(5)
    base = rng.standard_normal((30, 64))
    near = base[:10] + 0.05 * rng.standard_normal((10, 64))
    vectors = np.concatenate([base, near, base[10:12]])
    ids = [f"v{i:02d}" for i in range(42)]
    table = pa.table(
        {"key": ids, "place": vectors.astype("f4").tolist(), "score": [float(i) for i in range(42)]},
    )
    pq.write_table(table, tmp_path / "in.parquet")
    arguments = ["dedup", "--input", str(tmp_path / "in.parquet"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--vector", "place", "--id", "key", "--quality", "score", "--threshold", "0.95"]) == 0
    found = pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = {(i, j) for i, j in np.argwhere(unit @ unit.T >= 0.95).tolist() if i < j}
    assert {(row["id"], row["duplicate_of"]) for row in found} == {(ids[i], ids[j]) for i, j in alike}
    assert {row["id"]: row["channel"] for row in found} == {
        **dict.fromkeys(ids[:10], "semantic"),
        **dict.fromkeys(ids[10:12], "exact"),
    }
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["input"] == 42 == summary["kept"] + summary["near"] + summary["exact"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "give --text or --vector, one of the two"),
        (("--text", "t", "--vector", "v", "--id", "i"), "give --text or --vector, one of the two"),
        (("--vector", "v"), "--vector needs --id: vectors are known by their ids"),
    ],
)
def test_texts_or_vectors(tmp_path, capsys, flags, said):
    assert main(["dedup", "--input", str(tmp_path), "--output", str(tmp_path / "out"), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_column_that_holds_no_vectors_is_refused(tmp_path, capsys):
    path = write(tmp_path / "in.parquet", {"a": "x"})
    arguments = ["dedup", "--input", str(path), "--output", str(tmp_path / "out"), "--vector", "text", "--id", "id"]
    assert main(arguments) == 2
    assert "column 'text' is string, which is no list of numbers; name another column" in capsys.readouterr().err


def test_rounds_of_stars_decide_as_union_find_does(tmp_path):
    path = str(write(tmp_path / "in.parquet", texts(groups=6)))
    config = DedupConfig(DocumentColumns("text", "id"))
    run_dedup([path], tmp_path / "few", config)
    run_dedup([path], tmp_path / "many", replace(config, decide=DecideParams(edges_in_memory=0, partitions=3)))
    assert hashes(tmp_path / "many") == hashes(tmp_path / "few")
    # as many edges as fit
    count = pq.read_metadata(tmp_path / "few" / "edges.parquet").num_rows
    run_dedup([path], tmp_path / "fit", replace(config, decide=DecideParams(edges_in_memory=count)))
    assert hashes(tmp_path / "fit") == hashes(tmp_path / "few")


@pytest.mark.parametrize(("edges_in_memory", "unjoined"), [(3, 0), (2, 3)])
def test_edges_that_do_not_fit_come_out_where_the_graph_has_no_stars(edges_in_memory, unjoined):
    batches = [pa.record_batch({"a": [a], "b": [a - 1], "similarity": [1.0], "exact": [False]}) for a in (1, 2, 9)]
    with beam.Pipeline() as pipeline:
        edges = pipeline | beam.Create(batches).with_output_types(pa.RecordBatch)
        found = edges | WholeComponents(edges_in_memory, 2, 3, stars=False)
        assert "StarLarge1" not in str(pipeline.to_runner_api())
        batches_of = {UNJOINED: found[UNJOINED], LABELLED: found[LABELLED] | beam.Values()}
        for name, count in ((UNJOINED, unjoined), (LABELLED, 3 - unjoined)):
            rows = batches_of[name] | f"Rows {name}" >> beam.Map(lambda batch: batch.num_rows)
            assert_that(rows | f"Sum {name}" >> beam.CombineGlobally(sum), equal_to([count]), name)


def test_a_cluster_beyond_the_limit_fails_a_pipeline(tmp_path):
    path = str(write(tmp_path / "in.parquet", {str(i): "the same words" for i in range(5)}))
    config = DedupConfig(DocumentColumns("text", "id"), decide=DecideParams(max_cluster=4))
    with pytest.raises(Exception, match="cluster 0 has 5 documents, more than max_cluster 4; look at its edges, raise"):
        run_dedup([path], tmp_path / "out", config)
