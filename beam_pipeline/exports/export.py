"""What every writer of an export takes and gives: options in, what was written out, an error that says what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from beam_pipeline.curated import CuratedEpisode, CuratedSet
from beam_pipeline.output_folder import SPLITS
from beam_pipeline.training.splits import read_splits

Videos = Literal["reference", "copy", "remux", "reencode"]
ImageCameras = Literal["image", "video"]
VIDEOS: tuple[Videos, ...] = ("reference", "copy", "remux", "reencode")
IMAGE_CAMERAS: tuple[ImageCameras, ...] = ("image", "video")


class ExportError(Exception):
    """The export cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class ExportOptions:
    """What was asked for.

    `sources`: names, all where empty. `videos`: links to the curated folder's files, the files byte for byte, their
    packets in a new container, or the shown frames encoded anew. `image_cameras`: cameras whose pictures are stored
    one by one stay so, or become videos. `canonical`: with the columns that curation added in canonical units.
    `without`: columns and cameras to leave out.
    """

    output: Path
    sources: tuple[str, ...] = ()
    videos: Videos = "copy"
    image_cameras: ImageCameras = "image"
    canonical: bool = False
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exported:
    """What was written: `folders` to load, relative to the target, counts, and `notes`, lines that a user must read."""

    folders: tuple[Path, ...]
    n_episodes: int
    n_steps: int
    notes: tuple[str, ...] = ()


Writer = Callable[[CuratedSet, ExportOptions], Exported]
"""Writes into `options.output`, an empty folder that becomes the target when all is written; raises ExportError."""


def check_target(output: Path) -> None:
    """Raise ExportError where the target is no folder to be made: it holds something, or is a file."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise ExportError(f"{output} is a file or a link; name a folder that is absent or empty")
    if output.exists() and (found := sorted(p.name for p in output.iterdir())):
        raise ExportError(
            f"{output} holds {len(found)} entries, such as {found[0]!r}; name a folder that is absent or empty"
        )


@contextmanager
def staged(output: Path) -> Iterator[Path]:
    """A folder beside the target that becomes it at the end, and is removed where writing fails: never half an export.

    Raises ExportError where the target holds something or cannot be made.
    """
    check_target(output)
    folder = output.with_name(f"{output.name}.partial-{os.getpid()}")
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.replace(output)
    except OSError as error:
        raise ExportError(
            f"{output} cannot be written: {error.strerror or error}; make room, or use another --output"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def chosen_episodes(curated: CuratedSet, options: ExportOptions) -> dict[str, list[CuratedEpisode]]:
    """Kept episodes of each chosen source, by id; raises ExportError where a source is unknown or has none."""
    known = curated.sources()
    unknown = sorted(set(options.sources) - set(known))
    if unknown:
        raise ExportError(f"there is no source {unknown[0]!r} in {curated.folder}; there are {', '.join(known)}")
    found = {name: list(curated.episodes(name)) for name in sorted(options.sources) or known}
    if options.sources:
        empty = [name for name in options.sources if not found[name]]
        if empty:
            raise ExportError(
                f"source {empty[0]!r} has no kept episode in {curated.folder}; its ledger says why, select.rules decide"
            )
    elif not any(found.values()):
        raise ExportError(f"no source of {curated.folder} has a kept episode; its ledger says why")
    return {name: episodes for name, episodes in found.items() if episodes}


def stated_splits(curated: CuratedSet) -> Mapping[str, str]:
    """Episode id -> split, as the command `split` left it in the curated folder; empty where that was not run.

    Raises OutputError where it is of another run and lacks an episode.
    """
    return read_splits(curated) if (curated.folder / SPLITS).exists() else {}
