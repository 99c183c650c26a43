"""The written output: what every reader sees, which bytes, how much memory."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import apache_beam as beam
import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline

from tests.transforms.output_episodes import image_episode, read_images, staged, stored, video_episode, video_file
from transforms import staging as staging_module
from transforms.coders import to_ipc
from transforms.decided_tables import EpisodesTable, cut_source, rows_of_source, write_episodes
from transforms.deciding import decide_all
from transforms.episode import Episode, ImageRef
from transforms.evidence import Evidence
from transforms.file_hash import file_hash
from transforms.output_files import OUT, Member, Part, PartReport
from transforms.output_schema import agree_on_columns
from transforms.part_members import PlannedPart, plan_part
from transforms.part_writer import Compression, Format, SinkParams, open_part
from transforms.reports import WriteReports, read_reports
from transforms.select import SelectParams
from transforms.sinks import FILES, WriteKept, copy_video
from transforms.transition_rows import ReadImages

SMALL = SinkParams(part_target_mb=0.002, row_group_rows=5)


def write(
    staging: Path, episodes: Sequence[Evidence], params: SinkParams = SMALL, images: ReadImages = read_images
) -> list[PartReport]:
    roots = {"arm": "/raw/arm", "other one": str(staging.parent)}
    decided = decide_all(stored(staging, episodes, roots), [], SelectParams(), {})
    table = decided.measured.episodes
    names, sizes = table.column("episode_id").to_pylist(), table.column("n_bytes").to_pylist()
    parts = [
        Part(source, index, tuple(Member(name) for name in ids))
        for source, start, count in rows_of_source(table)
        for index, ids in enumerate(
            cut_source(
                source,
                names[start : start + count],
                sizes[start : start + count],
                [True] * count,
                params.part_target_mb * 2**20,
            )
        )
    ]
    agreed = agree_on_columns((one.source, one.columns) for one in episodes)
    row_of = {name: row for row, name in enumerate(names)}
    rows = write_episodes(staging, EpisodesTable(decided), parts, row_of, params)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        planned = [plan_part(staging, part) for part in parts]
        made = pipeline | beam.Create(planned, reshuffle=False).with_output_types(PlannedPart)
        written = made | WriteKept(str(staging), "", params, agreed, images)
        _ = written[FILES] | WriteReports(str(staging))
    return sorted([*rows, *read_reports(staging)], key=lambda report: report.path)


def mixture(folder: Path) -> list[Episode]:
    video = video_file(folder)
    return [image_episode("arm", i) for i in range(8)] + [video_episode("other one", i, video) for i in range(7)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("output")
    staging = folder / "_staging"
    write(staging, staged(staging, mixture(folder)))
    return staging / OUT


def test_pyarrow_reads_rows_as_they_went_in(written: Path) -> None:
    table = (
        ds.dataset(written / "transitions", partitioning="hive")
        .to_table()
        .sort_by([("episode_id", "ascending"), ("frame_index", "ascending")])
    )
    assert table.num_rows == 8 * 4 + 7 * 3
    assert set(table["source"].to_pylist()) == {"arm", "other one"}
    rows = table.slice(4, 4).to_pylist()
    assert [r["episode_id"] for r in rows] == ["arm/train/000001"] * 4
    assert [r["frame_index"] for r in rows] == [0, 1, 2, 3]
    assert rows[0]["observation.state"] == [1.0, 1.125, 1.25, 1.375, 1.5, 1.625]
    assert rows[0]["next.observation.state"] == rows[1]["observation.state"]
    assert [r["next.reward"] for r in rows] == [0.0, 1.0, 2.0, 3.0]
    assert [r["discount"] for r in rows] == [1.0, 1.0, 1.0, 0.0]
    assert rows[0]["gripper"] == [1.0], "a scalar of one source joins the other's list"
    assert rows[2]["observation.images.wrist"] == {"bytes": read_images(ImageRef("", "", 5), [2])[0], "path": None}
    assert rows[3]["observation.images.wrist"] is None
    other = table.slice(32, 3).to_pylist()
    assert other[1]["reward"] is None
    name = f"videos/{file_hash(written.parent.parent / 'front.mp4')}.mp4"
    assert other[1]["observation.images.front"] == {"path": name, "timestamp": 2.1}
    assert (written / name).stat().st_size == 10240
    assert len(list((written / "videos").iterdir())) == 1


def test_every_file_has_the_same_schema_and_leading_columns(written: Path) -> None:
    files = sorted(written.glob("transitions/*/*.parquet"))
    schemas = [pq.read_schema(f) for f in files]
    assert len(files) >= 8
    assert all(s.equals(schemas[0], check_metadata=True) for s in schemas)
    assert schemas[0].names[:3] == ["episode_id", "frame_index", "timestamp_ns"]
    assert schemas[0].names[3:] == sorted(schemas[0].names[3:])
    assert "source" not in schemas[0].names


def test_episodes_rows_hold_metadata_scores_and_findings(written: Path) -> None:
    rows = ds.dataset(written / "episodes", partitioning="hive").to_table().sort_by("episode_id").to_pylist()
    row = rows[1]
    assert row["episode_id"] == "arm/train/000001"
    assert row["uri"] == "shard-1.h5"
    assert row["duration_s"] == 0.4
    assert (row["n_steps"], row["n_transitions"], row["success"]) == (5, 4, True)
    assert row["conventions"] == [{"key": "joint_unit", "value": "rad"}, {"key": "urdf", "value": "arm.urdf"}]
    assert row["score.quality.sparc"] == -2.5
    assert "score.physics.limits" not in row, "what was not measured has no score"
    assert row["findings"][0]["check"] == "physics.limits"
    assert row["cameras"][0]["camera"] == "wrist"
    other = rows[8]
    assert other["uri"] == "front.mp4"
    assert other["score.quality.sparc"] is None
    assert other["videos"][0]["from_pts_ns"] == 2_000_000_000
    assert other["videos"][0]["to_pts_ns"] == 2_400_000_000


def test_duckdb_pandas_and_polars_read_source_as_partition(written: Path) -> None:
    glob = f"{written}/transitions/**/*.parquet"
    counted = duckdb.sql(
        f"select source, count(*), max(len(action)) from read_parquet('{glob}', hive_partitioning=true) "
        "group by source order by source"
    ).fetchall()
    assert counted == [("arm", 32, 6), ("other one", 21, 7)]
    unit = duckdb.sql(
        "select map_from_entries(conventions)['joint_unit'] "
        f"from read_parquet('{written}/episodes/**/*.parquet', hive_partitioning=true) where source = 'arm' limit 1"
    ).fetchall()
    assert unit == [("rad",)]
    frame = pd.read_parquet(written / "transitions")
    assert frame.groupby("source", observed=True).size().to_dict() == {"arm": 32, "other one": 21}
    assert pd.read_parquet(written / "episodes")["score.quality.sparc"].notna().sum() == 8
    lazy = pl.scan_parquet(glob, hive_partitioning=True)
    assert dict(lazy.group_by("source").len().collect().iter_rows()) == {"arm": 32, "other one": 21}
    assert pl.scan_parquet(f"{written}/episodes/**/*.parquet", hive_partitioning=True).collect().height == 15


def test_datasets_shows_images_and_a_split_per_source(written: Path, tmp_path: Path) -> None:
    files = {"arm": "source=arm/*.parquet", "other_one": "source=other%20one/*.parquet"}
    loaded = datasets.load_dataset(
        "parquet",
        data_files={k: str(written / "transitions" / v) for k, v in files.items()},
        cache_dir=str(tmp_path),
    )
    assert loaded["arm"][3]["observation.images.wrist"] is None
    assert loaded["arm"][2]["observation.images.wrist"].getpixel((0, 0)) == 2
    assert loaded["other_one"][1]["observation.images.front"]["timestamp"] == 2.1
    episodes = datasets.load_dataset(
        "parquet", data_files=str(written / "episodes/*/*.parquet"), cache_dir=str(tmp_path), split="train"
    )
    assert len(episodes) == 15


def test_ray_data_reads_source_as_partition(written: Path) -> None:
    ray = pytest.importorskip("ray")
    ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)  # another process may run one
    try:
        frame = ray.data.read_parquet(str(written / "transitions")).to_pandas()
    finally:
        ray.shutdown()
    assert frame.groupby("source").size().to_dict() == {"arm": 32, "other one": 21}


def test_bytes_do_not_depend_on_input_order(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 1, 2):
        staging = tmp_path / f"run{seed}" / "_staging"
        staging.mkdir(parents=True)
        decisions = staged(staging, mixture(tmp_path / f"run{seed}"))
        random.Random(seed).shuffle(decisions)
        hashes.append([(r.path, r.hash, r.rows) for r in write(staging, decisions)])
        assert all(file_hash(staging / OUT / path) == found for path, found, _ in hashes[-1])
    assert hashes[0] == hashes[1] == hashes[2]
    assert sum(path.startswith("transitions/source=arm") for path, _, _ in hashes[0]) >= 4


ALLOWED = [p for p in product(("parquet", "arrow"), ("zstd", "lz4", "snappy", "none")) if p != ("arrow", "snappy")]


@pytest.mark.parametrize(("format", "compression"), ALLOWED)
def test_both_formats_and_all_compressions_hold_the_same_rows(
    tmp_path: Path, format: Format, compression: Compression
) -> None:
    params = SinkParams(format=format, compression=compression, row_group_rows=3)
    reports = write(tmp_path, staged(tmp_path, [image_episode("arm", i) for i in range(2)]), params)
    assert [Path(r.path).suffix for r in reports] == [f".{format}"] * 3
    table = ds.dataset(tmp_path / OUT / "transitions", format=format, partitioning="hive").to_table()
    assert table["next.reward"].to_pylist() == [0.0, 1.0, 2.0, 3.0] * 2
    if format == "parquet":
        meta = pq.read_metadata(tmp_path / OUT / "transitions/source=arm/part-00000.parquet")
        assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [3, 3, 2]
        column = meta.row_group(0).column(1)
        assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())
        assert (column.statistics.min, column.statistics.max) == (0, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "arrow", "compression": "snappy"}, "use zstd, lz4 or none"),
        ({"compression": "snappy", "compression_level": 3}, "sink.compression_level is 3, but snappy has no levels"),
        ({"compression": "zstd", "compression_level": 23}, "sink.compression_level is 23; zstd takes 1 to 22"),
        ({"part_target_mb": 0}, "sink.part_target_mb is 0; need a positive number"),
        ({"row_group_rows": -1}, "sink.row_group_rows is -1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SinkParams(**settings)


def test_one_episode_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    from transforms import sinks

    decisions = staged(tmp_path, [image_episode("arm", i) for i in range(12)])
    alive: list[weakref.ref[Episode]] = []
    most = 0

    def counted(staging: Path, place: str) -> Episode:
        nonlocal most
        gc.collect()
        episode = staging_module.load_episode(staging, place)
        alive.append(weakref.ref(episode))
        most = max(most, sum(ref() is not None for ref in alive))
        return episode

    monkeypatch.setattr(sinks, "load_episode", counted)
    write(tmp_path, decisions, SinkParams(row_group_rows=5))
    assert len(alive) == 12
    assert most <= 2, "the one being loaded, and at most the one just written"


def test_images_are_fetched_once_and_in_windows(tmp_path: Path) -> None:
    calls: list[list[int]] = []

    def counting(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
        calls.append(list(indices))
        return [b"x"] * len(indices)

    from transforms.output_schema import AgreedSchema, arrow_schema
    from transforms.staging import load_episode
    from transforms.transition_rows import transition_batches

    (evidence,) = staged(tmp_path, [image_episode("arm", 0, steps=1200)])
    episode = load_episode(tmp_path, evidence.staged)
    schema = arrow_schema(AgreedSchema(evidence.columns))
    rows = sum(batch.num_rows for batch in transition_batches(episode, schema, counting))
    assert rows == 1199
    assert [len(c) for c in calls] == [512, 512, 174]
    assert sorted(np.concatenate(calls)) == list(range(1198)), "each image once, none for the step that saw none"


def test_a_changed_video_is_refused(tmp_path: Path) -> None:
    video = video_file(tmp_path)
    with pytest.raises(ValueError, match=r"front.mp4: content hash is \w+, was 00 when read; the file changed, run"):
        copy_video(tmp_path, "00.mp4", str(video))
    assert not list((tmp_path / "tmp").iterdir())


def test_nothing_kept_writes_no_file_but_a_report(tmp_path: Path) -> None:
    assert write(tmp_path, []) == []


def test_row_groups_do_not_depend_on_how_rows_come_in(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts = ["x" * int(n) for n in rng.integers(0, 60_000, 600)]
    schema = pa.schema([("text", pa.string()), ("values", pa.list_(pa.field("item", pa.float32()))), ("n", pa.int64())])
    whole = pa.table([texts, [[1.5] * (i % 5) for i in range(600)], [*range(599), None]], schema=schema)
    hashes = []
    for format, size in product(("parquet", "arrow"), (1, 7, 600)):
        params = SinkParams(format=format, row_group_rows=200)
        with open_part(tmp_path, f"x{size}.{format}", schema, params, "s") as (writer, reports):
            for batch in whole.to_batches(max_chunksize=size):
                read = pa.ipc.open_stream(to_ipc(batch)).read_all().to_batches()[0]  # another layout in memory
                writer.write(read)
        hashes.append((format, reports[0].hash))
    assert len(set(hashes)) == 2, hashes
    groups = pq.ParquetFile(tmp_path / OUT / "x1.parquet").metadata
    sizes = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert len(sizes) > 3 and sum(sizes) == 600 and max(sizes) <= 200
