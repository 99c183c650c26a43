"""LeRobot data sets: what info.json declares, what footers and video headers hold, and where the two disagree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from beam_pipeline.inspection.code import NO_INSTRUCTION
from beam_pipeline.inspection.lerobot_episodes import Episodes, Videos
from beam_pipeline.inspection.lerobot_footers import read_footers
from beam_pipeline.inspection.lerobot_v2 import episodes_v2
from beam_pipeline.inspection.lerobot_v3 import episodes_v3
from beam_pipeline.inspection.report import Camera, DatasetReport, Instruction, Notices, Stream, counted
from beam_pipeline.inspection.video_headers import period_ns, read_headers
from transforms.conventions import Source
from transforms.media import VideoHeader
from transforms.sources.lerobot_meta import Dataset, Feature, Info, digest_of, load_dataset
from transforms.sources.lerobot_plan import FORMAT
from transforms.sources.lerobot_videos import CODEC_NAMES, camera_name, declared_findings


def inspect(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """One data set's folder. Raises Unreadable where its info.json cannot be used."""
    root = paths[0]
    dataset = load_dataset(str(root), digest_of(root))
    info = dataset.info
    episodes = episodes_v3(dataset, notices) if info.version == 3 else episodes_v2(source, dataset, notices)
    read_footers(dataset, episodes.data_files, notices)
    cameras = [_camera(dataset, name, episodes, notices) for name in dataset.cameras]
    cameras += [_images(name, info.features[name], info.fps) for name in dataset.image_cameras]
    if not episodes.tasks and not dataset.tasks:
        notices.add(NO_INSTRUCTION, "neither episodes nor a task table name a task")
    return DatasetReport(
        path=str(root),
        format=FORMAT,
        version=info.codebase_version + (" with modality.json" if dataset.modality is not None else ""),
        robot=info.robot_type or "",
        files=len(episodes.data_files) + sum(camera.files for camera in cameras),
        episodes_listed=episodes.listed,
        episodes_present=episodes.present,
        steps=episodes.steps,
        duration_s=episodes.steps / info.fps if info.fps else None,
        rate_hz=info.fps,
        splits=episodes.splits,
        streams=tuple(_streams(info, dataset)),
        cameras=tuple(cameras),
        instructions=_instructions(dataset, episodes),
        n_instructions=len(episodes.tasks) or len(set(dataset.tasks.values())),
    )


def _instructions(dataset: Dataset, episodes: Episodes) -> tuple[Instruction, ...]:
    """What episodes list; else the task table, whose use by episodes only their rows tell."""
    if episodes.tasks:
        return counted(episodes.tasks)
    return tuple(Instruction(text, None) for text in sorted(set(dataset.tasks.values()))[:20])


def _streams(info: Info, dataset: Dataset) -> Iterable[Stream]:
    for name, feature in sorted(info.features.items()):
        if name not in dataset.pictures:
            shape = tuple(feature.shape or ())
            yield Stream(name, feature.dtype, shape, info.fps, element_names(feature))


def element_names(feature: Feature) -> tuple[str, ...]:
    """Names of a feature's elements; empty where they are not stated one for each: `[[a, b]]`, `{"motors": [a, b]}`."""

    def flat(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for item in value.values() for text in flat(item)]
        if isinstance(value, list):
            return [text for item in value for text in flat(item)]
        return [value] if isinstance(value, str) else []

    names = flat(msgspec.json.decode(feature.names))
    size = feature.shape[0] if feature.shape is not None and len(feature.shape) == 1 else 0
    return tuple(names) if len(names) == size else ()


def _images(name: str, feature: Feature, fps: float | None) -> Camera:
    width, height = feature.size or (None, None)
    return Camera(camera_name(name), "images", width, height, fps)


def _camera(dataset: Dataset, feature: str, episodes: Episodes, notices: Notices) -> Camera:
    """A camera as its first readable file shows it, else as it is declared."""
    info, name = dataset.info, camera_name(feature)
    declared = info.features[feature]
    windows = episodes.videos.get(feature, Videos([]))
    headers = read_headers(Path(dataset.root), windows.files, notices)
    for file, header in headers.items():
        for found in declared_findings(name, declared, header, period_ns(header)):
            notices.add(found.check, f"{found.detail} ({file})")
        windows.against(file, header, name, notices)
    shown = next(iter(headers.values()), None)
    width, height = (shown.width, shown.height) if shown else declared.size or (None, None)
    return Camera(
        name,
        _codec(shown) or declared.video.codec,
        width,
        height,
        (shown.rate_hz if shown else declared.video.fps) or info.fps,
        len(windows.files),
        windows.absent,
        len(headers),
    )


def _codec(header: VideoHeader | None) -> str | None:
    return CODEC_NAMES.get(header.codec, header.codec) if header is not None else None
