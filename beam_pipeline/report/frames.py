"""Where pictures come from: episodes that wait in the staging area, an earlier report, the published tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from beam_pipeline.curated import CuratedEpisode, CuratedSet
from beam_pipeline.report.looks import CAMERAS, Look, Strip, Wish, cameras_in_order, curves_of, picture_steps
from transforms.episode import IMAGES, INDEX_SUFFIX, PTS_SUFFIX, Episode, ImageRef, VideoRef
from transforms.loader import read_images
from transforms.media import MediaParams, limit_shared_decoder, shared_decoder
from transforms.output_files import portable
from transforms.stage import Unreadable, contained
from transforms.staging import load_episode, staged_path

NOT_STORED = "frames not stored: the episode is not in the output, and its source was not read again"
_BUDGET_S = 90.0
"""No strip is begun after this time; `media.timeout_s` bounds the one that is being decoded then."""
_OfCamera = Callable[[str, Sequence[int]], tuple[list[int], list[bytes]]]
"""(camera, steps wanted) -> steps that have a frame, and their pictures."""


class Album:
    """Makes looks, each from the first place that has the episode.

    `staging` holds whole episodes while a run is not published; `earlier` are looks of the report before this one;
    `published` holds kept episodes. `roots` cuts this machine's folders from messages.
    """

    def __init__(
        self,
        published: CuratedSet,
        staging: Path | None = None,
        earlier: Mapping[str, Look] | None = None,
        roots: Mapping[str, str] | None = None,
        media: MediaParams | None = None,
    ) -> None:
        self._published = published
        self._staging = staging
        self._earlier = earlier or {}
        self._roots = roots or {}
        limit_shared_decoder(media or MediaParams())  # in process, the child that measured frames is still there
        self._decoder = shared_decoder()
        self._ends = time.monotonic() + _BUDGET_S

    def looks(self, wishes: Sequence[Wish]) -> dict[str, Look]:
        """A look for every wish, by episode id; an episode that cannot be shown says why."""
        kept = self._kept_rows(wishes)
        return {wish.episode_id: self._look(wish, kept.get(wish.episode_id)) for wish in wishes}

    def _look(self, wish: Wish, kept: CuratedEpisode | None) -> Look:
        def failed(error: Exception) -> Look:
            note = portable(f"frames not read: {type(error).__name__}: {error}", self._roots.get(wish.source, ""))
            return Look(wish.episode_id, wish.content_id, note=note)

        return next(contained(lambda: [self._found(wish, kept)], failed))

    def _found(self, wish: Wish, kept: CuratedEpisode | None) -> Look:
        place = staged_path(wish.episode_id)
        if self._staging is not None and (self._staging / place).exists():
            return self._staged(wish, load_episode(self._staging, place))
        before = self._earlier.get(wish.episode_id)
        if before is not None and before.content_id == wish.content_id:
            return before
        if kept is not None:
            return self._stored(wish, kept)
        return Look(wish.episode_id, wish.content_id, note=NOT_STORED)

    def _staged(self, wish: Wish, episode: Episode) -> Look:
        def of_camera(camera: str, chosen: Sequence[int]) -> tuple[list[int], list[bytes]]:
            ref = episode.videos[camera]
            suffix = PTS_SUFFIX if isinstance(ref, VideoRef) else INDEX_SUFFIX
            index = episode.steps.schema.get_field_index(IMAGES + camera + suffix)
            column = episode.steps.column(index).to_pylist() if index >= 0 else [None] * episode.steps.num_rows
            places = {step: int(at) for step in chosen if (at := column[step]) is not None}
            return list(places), self._pictures(ref, list(places.values()))

        return self._assemble(wish, episode.steps, episode.conventions, sorted(episode.videos), of_camera)

    def _pictures(self, ref: VideoRef | ImageRef, places: Sequence[int]) -> list[bytes]:
        if not places:
            return []
        if isinstance(ref, VideoRef):
            return self._decoder.video_thumbnails(ref, places)
        return self._decoder.image_thumbnails(read_images(ref, places), ref.depth)

    def _stored(self, wish: Wish, kept: CuratedEpisode) -> Look:
        names = self._published.step_columns(kept)
        steps = self._published.steps(kept, [name for name in names if not name.startswith(IMAGES)])
        depth = {video.camera: bool(video.depth) for video in kept.videos}

        def of_camera(camera: str, chosen: Sequence[int]) -> tuple[list[int], list[bytes]]:
            column = self._published.steps(kept, [IMAGES + camera])[IMAGES + camera]
            shown = {step: column[step].as_py() or {} for step in chosen}
            images = {step: seen["bytes"] for step, seen in shown.items() if seen.get("bytes")}
            if images:
                return list(images), self._decoder.image_thumbnails(list(images.values()))
            videos = {step: seen for step, seen in shown.items() if seen.get("path")}
            if not videos:
                return [], []
            path = self._published.place(next(iter(videos.values()))["path"])
            at_ns = [round(seen["timestamp"] * 1e9) for seen in videos.values()]
            ref = VideoRef(str(path), 0, 0, depth=depth.get(camera, False))
            return list(videos), self._decoder.video_thumbnails(ref, at_ns)

        cameras = [name.removeprefix(IMAGES) for name in names if name.startswith(IMAGES)]
        conventions = {pair["key"]: pair["value"] for pair in kept.row["conventions"] or ()}
        return self._assemble(wish, steps.combine_chunks().to_batches()[0], conventions, cameras, of_camera)

    def _assemble(
        self,
        wish: Wish,
        steps: pa.RecordBatch,
        conventions: Mapping[str, str],
        cameras: Sequence[str],
        of_camera: _OfCamera,
    ) -> Look:
        signal, unit, at, curves = curves_of(steps, conventions)
        chosen = picture_steps(steps.num_rows, wish.interval)
        strips: list[Strip] = []
        for camera in cameras_in_order(cameras, wish):
            if len(strips) < CAMERAS:
                strips += self._strip(wish, camera, chosen, of_camera)
        return Look(wish.episode_id, wish.content_id, steps.num_rows, signal, unit, at, curves, tuple(strips))

    def _strip(self, wish: Wish, camera: str, chosen: Sequence[int], of_camera: _OfCamera) -> list[Strip]:
        """One strip; none where no chosen step has a frame, as in columns that other sources brought."""
        if time.monotonic() > self._ends:
            return [Strip(camera, note=f"frames not read: the {_BUDGET_S:g} s for pictures of a report were spent")]
        try:
            steps, pictures = of_camera(camera, chosen)
        except (Unreadable, OSError) as error:
            return [Strip(camera, note=portable(f"frames not read: {error}", self._roots.get(wish.source, "")))]
        return [Strip(camera, tuple(steps), tuple(pictures))] if steps else []

    def _kept_rows(self, wishes: Sequence[Wish]) -> Mapping[str, CuratedEpisode]:
        """Rows of the episodes table for wishes that neither staging nor an earlier report can fill."""
        needed = [
            wish
            for wish in wishes
            if not (self._staging is not None and (self._staging / staged_path(wish.episode_id)).exists())
            and (wish.episode_id not in self._earlier or self._earlier[wish.episode_id].content_id != wish.content_id)
        ]
        if not needed:
            return {}
        return {episode.episode_id: episode for episode in self._published.episodes_of([w.episode_id for w in needed])}
