"""Names in the output: free of this machine, readable by every reader of hive partitions."""

from __future__ import annotations

import pytest

from transforms.conventions import Source
from transforms.output_files import part_path, portable, source_roots, video_name


@pytest.mark.parametrize(
    ("text", "root", "expected"),
    [
        ("/data/bridge/a/b.tfrecord", "/data/bridge", "a/b.tfrecord"),
        ("/data/one.hdf5", "/data/one.hdf5", "one.hdf5"),
        ("/data/bridge/a: 3 bytes; see /data/bridge/b", "/data/bridge", "a: 3 bytes; see b"),
        ("/data/bridge is empty", "/data/bridge", "bridge is empty"),
        ("/data/bridge.", "/data/bridge", "bridge."),
        ("/data/bridge2/a", "/data/bridge", "/data/bridge2/a"),
        ("/data/bridge.old/a", "/data/bridge", "/data/bridge.old/a"),
        ("/mnt/data/bridge/a", "/data/bridge", "/mnt/data/bridge/a"),
        ("gs://bucket/set/a.mp4", "gs://bucket/set", "a.mp4"),
        ("/anything", "", "/anything"),
    ],
)
def test_paths_are_told_from_the_source_on(text: str, root: str, expected: str) -> None:
    assert portable(text, root) == expected


def test_the_root_ends_before_the_first_wildcard() -> None:
    sources = (Source("a", "/data/set-*/x.h5"), Source("b", "/data/set/"), Source("c", "/data/v[12].mp4"))
    assert source_roots(sources) == {"a": "/data", "b": "/data/set", "c": "/data"}


def test_partition_folders_are_percent_encoded() -> None:
    assert part_path("ledger", "käfer 1%", 3, "arrow") == "ledger/source=k%C3%A4fer%201%25/part-00003.arrow"


def test_videos_are_named_by_content() -> None:
    assert video_name("ab", "/x.y/front.MP4") == "ab.mp4"
    assert video_name("ab", "/x.y/front") == "ab"
    with pytest.raises(ValueError, match=r"f.mp4: the video has no content hash, so it has no place in the output"):
        video_name("", "f.mp4")
