"""EmbedEpisodes: the chosen frames and the instruction of each episode through a model, decoded as they are wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np

from transforms.arrays import times_ns
from transforms.beam_inference import RunInference
from transforms.coders import to_json
from transforms.decode_frames import UNREADABLE, DecodeFrames, FrameRequest
from transforms.episode import IMAGES, INDEX_SUFFIX, PTS_SUFFIX, Episode, VideoRef
from transforms.frames import ReadImages
from transforms.handlers.blocks import Embedded, FrameBlock, TextBlock
from transforms.handlers.efficientnet_lite import PIXELS
from transforms.handlers.embedding import Device, EmbeddingHandler
from transforms.handlers.frame_embedding import DESCRIPTOR, FrameEmbeddingHandler
from transforms.handlers.guarded import GuardedHandler
from transforms.handlers.image_text import ImageTextHandler
from transforms.handlers.text_embedding import MINILM, TextEmbeddingHandler
from transforms.media import MediaParams

TEXT, FRAMES = "text", "frames"
CLIP = "open_clip:"
"""Before the name of a model that open_clip loads: one name under `text` and `frames` gives vectors that compare."""
INSTRUCTION = "instruction"


@dataclass(frozen=True)
class TextEmbeddingParams:
    """A model for instructions: `all-MiniLM-L6-v2` from its wheel, a sentence-transformers folder, or `open_clip:NAME`.

    `device` is where it runs, `gpus` the share of a GPU that a worker asks for.
    """

    model: str = MINILM
    device: Device = "auto"
    gpus: float | None = None


@dataclass(frozen=True)
class FrameEmbeddingParams:
    """A model for frames: `descriptor`, `efficientnet-lite0` from its wheel, a model of timm, or `open_clip:NAME`.

    Of each camera in `cameras` (all where none is named), `frames_per_episode` frames are taken at equal parts of the
    episode; with `rate_hz` as many as fill it at that rate. A call of the model holds at most `batch_rows`. Frames are
    decoded to squares of `pixels`; a model of another size brings them to its own.
    """

    model: str = DESCRIPTOR
    frames_per_episode: int = 8
    rate_hz: float | None = None
    cameras: tuple[str, ...] = ()
    batch_rows: int = 32
    pixels: int = PIXELS
    device: Device = "auto"
    gpus: float | None = None

    def __post_init__(self) -> None:
        for name in ("frames_per_episode", "batch_rows", "pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"embedding.frames.{name} is {getattr(self, name)}; need at least 1")
        if self.rate_hz is not None and not 0 < self.rate_hz <= 1000:
            raise ValueError(f"embedding.frames.rate_hz is {self.rate_hz:g}; need 0 < rate_hz <= 1000")


@dataclass(frozen=True)
class EmbeddingParams:
    """Vectors of episodes, stored with the evidence; nothing is embedded where neither is named."""

    text: TextEmbeddingParams | None = None
    frames: FrameEmbeddingParams | None = None

    @property
    def asked(self) -> bool:
        """Whether anything is to be embedded."""
        return self.text is not None or self.frames is not None


@dataclass(frozen=True)
class BlockKey:
    """Whose vectors a block's are: of `channel` TEXT there is no camera; `part` counts the blocks of one camera."""

    source: str
    episode_id: str
    channel: str
    camera: str = ""
    part: int = 0

    def text(self) -> str:
        """As a block carries it."""
        return to_json(self).decode()


def chosen_steps(n_steps: int, seconds: float | None, params: FrameEmbeddingParams) -> list[int]:
    """Steps in the middle of equal parts of an episode, each once; all of them where there are fewer than asked."""
    count = params.frames_per_episode
    if params.rate_hz is not None and seconds is not None:
        count = max(1, int(np.ceil(seconds * params.rate_hz)))
    count = min(count, n_steps)
    return [(2 * part + 1) * n_steps // (2 * count) for part in range(count)]


def frame_requests(episode: Episode, params: FrameEmbeddingParams) -> Iterator[FrameRequest]:
    """What to decode of an episode; cameras of depth, and steps without a frame, have nothing to show."""
    times = times_ns(episode.steps)
    seconds = None if times is None or len(times) < 2 else float(times[-1] - times[0]) / 1e9
    for camera in params.cameras or sorted(episode.videos):
        ref = episode.videos.get(camera)
        if ref is None or ref.depth:
            continue
        suffix = PTS_SUFFIX if isinstance(ref, VideoRef) else INDEX_SUFFIX
        place = episode.steps.schema.get_field_index(f"{IMAGES}{camera}{suffix}")
        if place < 0:
            continue
        array = episode.steps.column(place)
        shown = np.flatnonzero(np.asarray(array.is_valid()))
        steps = shown[chosen_steps(len(shown), seconds, params)] if len(shown) else shown
        at = array.take(steps).to_pylist()
        for part, start in enumerate(range(0, len(steps), params.batch_rows)):
            rows = slice(start, start + params.batch_rows)
            key = BlockKey(episode.source, episode.episode_id, FRAMES, camera, part).text()
            yield FrameRequest(key, ref, tuple(steps[rows].tolist()), tuple(int(value) for value in at[rows]))


def instruction_block(episode: Episode) -> Iterator[TextBlock]:
    """An episode's instruction, where it has one."""
    if episode.instruction:
        key = BlockKey(episode.source, episode.episode_id, TEXT)
        yield TextBlock((INSTRUCTION,), (episode.instruction,), key.text())


def frame_handler(params: FrameEmbeddingParams) -> EmbeddingHandler:
    """The handler that the parameters name."""
    kind = ImageTextHandler if params.model.startswith(CLIP) else FrameEmbeddingHandler
    return kind(params.model.removeprefix(CLIP), params.device, params.batch_rows, params.gpus)


def text_handler(params: TextEmbeddingParams) -> EmbeddingHandler:
    """The handler that the parameters name."""
    kind = ImageTextHandler if params.model.startswith(CLIP) else TextEmbeddingHandler
    return kind(params.model.removeprefix(CLIP), params.device, gpus=params.gpus)


class EmbedFrames(beam.PTransform):
    """FrameRequest -> Embedded: frames are decoded two requests ahead of the model, never the whole set."""

    def __init__(self, params: FrameEmbeddingParams, read_images: ReadImages, media: MediaParams | None = None) -> None:
        super().__init__()
        self._params, self._read_images, self._media = params, read_images, media or MediaParams()

    def expand(self, requests: beam.PCollection[FrameRequest]) -> beam.PCollection[Embedded]:
        handler = frame_handler(self._params)
        decode = DecodeFrames(self._read_images, self._media, self._params.pixels)
        decoded = requests | "DecodeFrames" >> beam.ParDo(decode).with_outputs(UNREADABLE, main="blocks")
        decoded.blocks.element_type = FrameBlock
        decoded[UNREADABLE].element_type = Embedded
        embedded = decoded.blocks | "InferFrames" >> RunInference(GuardedHandler(handler)).with_output_types(Embedded)
        return (embedded, decoded[UNREADABLE]) | "MergeFrames" >> beam.Flatten()


class EmbedEpisodes(beam.PTransform):
    """Episode -> Embedded, of the channels that the parameters ask for."""

    def __init__(self, params: EmbeddingParams, read_images: ReadImages, media: MediaParams | None = None) -> None:
        super().__init__()
        if not params.asked:
            raise ValueError("embedding names neither `text` nor `frames`: there is nothing to embed")
        self._params, self._read_images, self._media = params, read_images, media

    def expand(self, episodes: beam.PCollection[Episode]) -> beam.PCollection[Embedded]:
        found = []
        if self._params.frames is not None:
            found.append(
                episodes
                | "ChooseFrames" >> beam.FlatMap(frame_requests, self._params.frames).with_output_types(FrameRequest)
                | "EmbedFrames" >> EmbedFrames(self._params.frames, self._read_images, self._media)
            )
        if self._params.text is not None:
            handler = GuardedHandler(text_handler(self._params.text))
            found.append(
                episodes
                | "TakeInstructions" >> beam.FlatMap(instruction_block).with_output_types(TextBlock)
                | "InferTexts" >> RunInference(handler).with_output_types(Embedded)
            )
        return found | "MergeChannels" >> beam.Flatten()
