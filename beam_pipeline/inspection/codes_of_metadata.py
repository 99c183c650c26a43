"""Codes of totals, lengths and lists that do not agree (2xx)."""

from __future__ import annotations

from beam_pipeline.inspection.code import Code

METADATA: tuple[Code, ...] = (
    Code(
        "DATA-201",
        "warning",
        ("metadata.total_episodes",),
        "`total_episodes` is not the number of listed episodes; the list counts",
        "correct info.json",
    ),
    Code(
        "DATA-202",
        "warning",
        ("metadata.total_frames",),
        "`total_frames` is not the sum of the listed lengths; the lengths count",
        "correct info.json",
    ),
    Code(
        "DATA-203",
        "warning",
        ("metadata.total_videos",),
        "`total_videos` is not episodes times cameras",
        "correct info.json",
    ),
    Code("DATA-204", "warning", ("metadata.total_chunks",), "`total_chunks` is wrong", "correct info.json"),
    Code(
        "DATA-205",
        "warning",
        ("metadata.total_tasks",),
        "`total_tasks` is not the number of tasks",
        "correct info.json",
    ),
    Code(
        "DATA-206",
        "warning",
        ("metadata.splits",),
        "a split that is no range, reaches past the last episode, or overlaps another",
        "correct `splits` in info.json",
    ),
    Code(
        "DATA-207",
        "warning",
        ("metadata.episodes",),
        "the list of episodes is absent, or entries of it are unreadable or repeated; the first of a number counts",
        "restore or correct the list",
    ),
    Code(
        "DATA-208",
        "warning",
        ("metadata.length",),
        "a file holds another number of rows than the listed lengths; the rows count",
        "correct the list of episodes",
    ),
    Code(
        "DATA-209",
        "warning",
        ("metadata.shard_length",),
        "a shard holds another number of whole records than `shardLengths` says; the records count",
        "copy the shard again, or correct dataset_info.json",
    ),
    Code(
        "DATA-210",
        "warning",
        ("metadata.splits_alike",),
        "two splits state the same shards and the same bytes: one may hold the other's episodes",
        "compare them before one is used to evaluate the other",
    ),
    Code(
        "DATA-211",
        "warning",
        ("metadata.total",),
        "the attribute `total` is not the sum of the demos' samples; the samples count",
        "nothing: demos were likely removed",
    ),
    Code(
        "DATA-212",
        "warning",
        ("metadata.num_samples",),
        "a demo's `num_samples` is not its number of rows; the rows count",
        "correct the attribute",
    ),
    Code(
        "DATA-213",
        "warning",
        ("metadata.mask_overlap",),
        "the masks train and valid share demos",
        "separate them before training",
    ),
    Code(
        "DATA-214",
        "warning",
        ("metadata.dataset_index",),
        "`dataset_from_index` and `dataset_to_index` do not agree with the lengths, or do not follow on one another",
        "correct meta/episodes",
    ),
    Code(
        "DATA-215",
        "warning",
        ("metadata.episode_index",),
        "rows carry another `episode_index` than their place says",
        "correct the column or the metadata",
    ),
    Code("DATA-216", "error", ("metadata.unreadable",), "a metadata file that cannot be read", "restore the file"),
    Code(
        "DATA-217",
        "warning",
        ("metadata.dataset_info",),
        "dataset_info.json cannot be read; shards are taken from disk",
        "restore the file",
    ),
    Code(
        "DATA-218",
        "warning",
        ("metadata.task_index", "metadata.tasks"),
        "episodes name tasks that the task table does not have, or others than their rows",
        "correct the task table or the list of episodes",
    ),
    Code(
        "DATA-219",
        "warning",
        ("integrity.lost_messages", "integrity.lost_s", "metadata.message_count"),
        "more or fewer messages or seconds than are declared; what is there counts",
        "copy the bag again",
    ),
)
