"""What a LeRobot data set says of itself: info.json, tasks, the list of episodes, GR00T's modality.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import msgspec
import pyarrow as pa
import xxhash

from transforms.sources.lerobot_tables import table_of
from transforms.stores.paths import located
from transforms.unreadable import Unreadable

MAX_META_BYTES = 1 << 30
DATA_PATH = {
    2: "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    3: "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
}
VIDEO_PATH = {
    2: "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    3: "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}
_FIELD = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
T = TypeVar("T")


class DeclaredVideo(msgspec.Struct, frozen=True):
    """What info.json says of a camera's files."""

    codec: str | None = msgspec.field(default=None, name="video.codec")
    fps: float | None = msgspec.field(default=None, name="video.fps")
    is_depth_map: bool | None = msgspec.field(default=None, name="video.is_depth_map")


class Feature(msgspec.Struct, frozen=True):
    """One entry of info.json's `features`; a video's `shape` is (height, width, channels) by `names`."""

    dtype: str = ""
    shape: tuple[int, ...] | None = None
    names: msgspec.Raw = msgspec.Raw(b"null")
    info: DeclaredVideo | None = None
    video_info: DeclaredVideo | None = None

    @property
    def video(self) -> DeclaredVideo:
        return self.info or self.video_info or DeclaredVideo()

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) px; None where the shape does not say it."""
        if self.shape is None or len(self.shape) != 3:
            return None
        named = bytes(self.names)
        if b'"channel' in named and named.index(b'"channel') < named.find(b'"height"'):
            return self.shape[2], self.shape[1]
        return self.shape[1], self.shape[0]


class Info(msgspec.Struct, frozen=True):
    """info.json, as far as the reader uses it."""

    codebase_version: str
    features: dict[str, Feature] = {}
    robot_type: str | None = None
    fps: float | None = None
    chunks_size: int | None = None
    total_episodes: int | None = None
    total_frames: int | None = None
    total_tasks: int | None = None
    total_chunks: int | None = None
    total_videos: int | None = None
    splits: dict[str, str] = {}
    data_path: str | None = None
    video_path: str | None = None

    @property
    def version(self) -> Literal[2, 3]:
        return 3 if self.codebase_version.lower().startswith("v3") else 2

    def named(self, dtype: str) -> list[str]:
        """Names of the features of a dtype, sorted."""
        return sorted(name for name, feature in self.features.items() if feature.dtype == dtype)

    def split_range(self, split: str) -> tuple[int, int] | None:
        """`"0:100"` as (0, 100), never enumerated; None where it is written otherwise."""
        found = re.fullmatch(r"\s*(\d{1,18})\s*:\s*(\d{1,18})\s*", self.splits[split])
        return (int(found[1]), int(found[2])) if found else None

    def data_file(self, **values: int) -> str:
        return expand(self.data_path or DATA_PATH[self.version], values)

    def video_file(self, **values: int | str) -> str:
        return expand(self.video_path or VIDEO_PATH[self.version], values)

    def chunk(self, episode: int) -> int:
        return episode // (self.chunks_size or 1000)


class ModalityKey(msgspec.Struct, frozen=True):
    """One key of modality.json: elements `[start, end)` of a column, or another name of a column."""

    start: int | None = None
    end: int | None = None
    original_key: str | None = None


class Modality(msgspec.Struct, frozen=True):
    """GR00T's modality.json."""

    state: dict[str, ModalityKey] = {}
    action: dict[str, ModalityKey] = {}
    video: dict[str, ModalityKey] = {}
    annotation: dict[str, ModalityKey] = {}


def expand(template: str, values: Mapping[str, int | str]) -> str:
    """A path template of info.json with its fields filled in; raises Unreadable where it would leave the data set."""

    def fill(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise Unreadable(
                "corrupt", f"path template {template!r}: unknown field {found[1]!r}; known: {', '.join(sorted(values))}"
            )
        value = values[found[1]]
        return f"{value:0{int(found[2] or 0)}d}" if isinstance(value, int) and found[2] else str(value)

    path = _FIELD.sub(fill, template)
    parts = PurePosixPath(path).parts
    if "{" in path or "\0" in path or not parts or path.startswith(("/", "\\")) or ".." in parts:
        raise Unreadable(
            "corrupt", f"path template {template!r} gives {path!r}; it must stay within the data set, plain fields only"
        )
    return path


def read_bytes(path: Path) -> bytes:
    """A metadata file whole; raises Unreadable where it is absent, unreadable or over 1 GiB."""
    try:
        size = path.stat().st_size
        if size > MAX_META_BYTES:
            raise Unreadable("absurd_size", f"{path}: {size} bytes of metadata; limit {MAX_META_BYTES}")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Unreadable("absent", f"{path} is absent; a LeRobot data set needs it") from error
    except OSError as error:
        raise Unreadable("unreadable", f"{path}: {error.strerror or error}; check the file's permissions") from error


def _decode(path: Path, data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable("corrupt", f"{path}: {error}; {len(data)} bytes; restore the file from its origin") from error


def load_info(root: Path) -> Info:
    """info.json; raises Unreadable."""
    path = root / "meta" / "info.json"
    info = _decode(path, read_bytes(path), Info)
    if not re.match(r"v?[23]\b", info.codebase_version.lower()):
        raise Unreadable(
            "wrong_format", f"{path}: codebase_version {info.codebase_version!r}; v2.0, v2.1 and v3.0 are read"
        )
    if info.chunks_size is not None and info.chunks_size <= 0:
        raise Unreadable("corrupt", f"{path}: chunks_size is {info.chunks_size}; need at least 1")
    return info


def load_modality(root: Path) -> tuple[Modality, str] | None:
    """modality.json and its text as one JSON line; None where there is none; raises Unreadable."""
    path = root / "meta" / "modality.json"
    if not path.is_file():
        return None
    data = read_bytes(path)
    return _decode(path, data, Modality), msgspec.json.encode(msgspec.json.decode(data), order="sorted").decode()


def lines(path: Path) -> Iterator[Any]:
    """Each line of a .jsonl file decoded; an undecodable line comes as its DecodeError, the others are unharmed."""
    for line in read_bytes(path).splitlines():
        if line.strip():
            try:
                yield msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield error


def load_tasks(root: Path) -> Mapping[int, str]:
    """Task texts by index; empty where there is no table; raises Unreadable where it cannot be read."""
    parquet = root / "meta" / "tasks.parquet"
    if parquet.is_file():
        table = table_of(parquet)
        texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
        if not texts or "task_index" not in table.schema.names:
            raise Unreadable("corrupt", f"{parquet}: columns {table.schema.names}; need task_index and one of text")
        rows: Iterable[Any] = zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True)
        return {i: text for i, text in rows if isinstance(i, int) and isinstance(text, str)}
    if not (root / "meta" / "tasks.jsonl").is_file():
        return {}
    entries = [row for row in lines(root / "meta" / "tasks.jsonl") if isinstance(row, dict)]
    return {
        row["task_index"]: row["task"]
        for row in entries
        if isinstance(row.get("task_index"), int) and isinstance(row.get("task"), str)
    }


@dataclass(frozen=True, eq=False)
class Dataset:
    """What all episodes of a data set share; `attributes` are JSON; `broken` names metadata that cannot be read."""

    root: str
    info: Info
    tasks: Mapping[int, str]
    modality: Modality | None
    attributes: Mapping[str, str]
    broken: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    image_cameras: tuple[str, ...] = ()
    pictures: frozenset[str] = frozenset()


def digest_of(root: Path) -> str:
    """xxh3-64 of the metadata files that a Dataset is made of."""
    digest = xxhash.xxh3_64()
    for name in ("info.json", "tasks.jsonl", "tasks.parquet", "modality.json"):
        path = root / "meta" / name
        digest.update(name.encode() + (read_bytes(path) if path.is_file() else b""))
    return digest.hexdigest()


def _attributes(info: Info) -> dict[str, str]:
    values: dict[str, Any] = {
        "codebase_version": info.codebase_version,
        "robot_type": info.robot_type,
        "fps": info.fps,
        **{
            f"features.{name}.names": feature.names
            for name, feature in sorted(info.features.items())
            if feature.dtype not in ("video", "image") and bytes(feature.names) != b"null"
        },
    }
    encoded = {name: msgspec.json.encode(value) for name, value in values.items() if value is not None}
    return {name: msgspec.json.format(text, indent=-1).decode() for name, text in encoded.items()}


@lru_cache(maxsize=8)
def load_dataset(root: str, digest: str) -> Dataset:
    """A data set's metadata, kept per worker; `digest` as it was when the data set was planned. Raises Unreadable."""
    info = load_info(located(root))
    attributes = _attributes(info)
    tasks: Mapping[int, str] = {}
    modality: Modality | None = None
    broken = []
    try:
        tasks = load_tasks(located(root))
    except Unreadable as error:
        broken.append(error.problem.detail)
    try:
        if (found := load_modality(located(root))) is not None:
            modality, attributes["modality"] = found
    except Unreadable as error:
        broken.append(error.problem.detail)
    videos, images = tuple(info.named("video")), tuple(info.named("image"))
    return Dataset(
        root, info, tasks, modality, attributes, tuple(broken), videos, images, frozenset({*videos, *images})
    )
