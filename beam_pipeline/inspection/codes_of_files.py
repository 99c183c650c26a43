"""Codes of files that cannot be read (0xx) and of what is promised and absent, or there and not promised (1xx)."""

from __future__ import annotations

from beam_pipeline.inspection.code import CAMERA_WITHOUT_FILES, UNKNOWN_BESIDE, Code

FILES: tuple[Code, ...] = (
    Code("DATA-001", "error", ("absent",), "the path, or a file or split that was asked for, is absent", "correct it"),
    Code("DATA-002", "error", ("unknown_format",), "no reader knows the content of the path", "name another path"),
    Code(
        "DATA-003",
        "warning",
        (UNKNOWN_BESIDE,),
        "a file beside recordings that no reader knows; curating lists it as quarantined",
        "move it away, or name the recordings' own folder",
    ),
    Code("DATA-004", "error", ("empty",), "a file or folder without content", "record or copy it again, or remove it"),
    Code("DATA-005", "error", ("wrong_format",), "content of another format than its place says", "move or convert it"),
    Code("DATA-006", "error", ("truncated",), "a file that is cut off", "copy it again from its origin"),
    Code("DATA-007", "error", ("corrupt",), "a file or record whose bytes contradict their format", "copy it again"),
    Code(
        "DATA-008", "error", ("unreadable",), "a file that the system does not let be read", "check permissions, locks"
    ),
    Code(
        "DATA-009",
        "error",
        ("absurd_size",),
        "a declared size that the file cannot hold, or over a limit",
        "correct the metadata or restore the file",
    ),
    Code("DATA-010", "error", ("shape_changed",), "rows of one column differ in shape", "record the episode again"),
    Code("DATA-011", "error", ("plan_failed",), "the reader itself failed", "report it with the file"),
    Code(
        "DATA-012",
        "error",
        ("integrity.no_summary",),
        "a bag without its summary at the end: it was cut off, or never closed; what is whole is read",
        "copy it again; curating says what is lost",
    ),
    Code("DATA-013", "error", ("integrity.chunk",), "a damaged part of a bag; the rest is read", "copy it again"),
    Code(
        "DATA-101",
        "error",
        ("declared_absent",),
        "an episode that the metadata names and disk does not hold",
        "fetch the missing files, or take the episodes out of the metadata",
    ),
    Code(
        "DATA-102",
        "warning",
        ("metadata.unlisted",),
        "an episode on disk that the metadata does not list; it is read",
        "list it, or remove the file",
    ),
    Code(
        "DATA-103",
        "warning",
        ("metadata.data_path",),
        "an episode's file lies elsewhere than `data_path` says; it is read from there",
        "move the file, or correct `data_path`",
    ),
    Code(
        "DATA-104",
        "error",
        (CAMERA_WITHOUT_FILES,),
        "a declared camera of which no file is on disk",
        "fetch its videos, or take the camera out of the metadata",
    ),
    Code(
        "DATA-105",
        "error",
        ("integrity.camera_absent",),
        "episodes that are on disk without the video of a declared camera",
        "fetch the videos, or leave these episodes out",
    ),
    Code(
        "DATA-106",
        "warning",
        ("metadata.video_folder",),
        "videos lie in `video/` where the metadata says `videos/`; they are read from there",
        "rename the folder",
    ),
    Code(
        "DATA-107",
        "warning",
        ("metadata.camera_undeclared",),
        "a folder of videos whose camera the metadata does not declare; it is not read",
        "declare the camera, or remove the folder",
    ),
    Code(
        "DATA-108",
        "warning",
        ("metadata.shard_undeclared",),
        "a shard on disk that dataset_info.json does not declare; it is read",
        "declare it, or remove the file",
    ),
    Code(
        "DATA-109",
        "warning",
        ("metadata.demo_numbers", "metadata.episode_numbers"),
        "demo or episode numbers with gaps: some were removed, or not saved",
        "nothing, where that was meant",
    ),
    Code("DATA-110", "error", ("integrity.video_unreadable",), "a video whose header cannot be read", "copy it again"),
    Code(
        "DATA-111",
        "note",
        ("metadata.sidecar",),
        "a video with nothing beside it: neither sensors nor instruction are known",
        "put a sidecar beside it (docs/video.md)",
    ),
    Code("DATA-112", "warning", ("metadata.sidecar_empty",), "a sidecar without a row", "write it again or remove it"),
    Code(
        "DATA-113",
        "error",
        ("integrity.file_absent",),
        "a file that metadata.yaml of a bag lists and that is absent",
        "fetch it, or correct metadata.yaml",
    ),
)
