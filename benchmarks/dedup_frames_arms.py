"""One side of `dedup_frames`, in a process of its own: `python -m benchmarks.dedup_frames_arms SIDE FOLDER COUNT FEW`.

Prints a line of JSON: seconds for COUNT and for FEW episodes, frames of each, and a sum over the stored vectors.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.decode_frames import FrameRequest
from transforms.embeddings import EmbedFrames, FrameEmbeddingParams
from transforms.episode import VideoRef
from transforms.handlers.blocks import Embedded, FrameBlock
from transforms.handlers.embedding import embed
from transforms.handlers.frame_embedding import EFFICIENTNET, FrameEmbeddingHandler
from transforms.loader import read_images
from transforms.media_frames import Decoding
from transforms.media_samples import video_squares

FRAMES_PER_EPISODE = 8
RATE_HZ = 20
STEPS = 200
PARAMS = FrameEmbeddingParams(EFFICIENTNET, FRAMES_PER_EPISODE, batch_rows=FRAMES_PER_EPISODE, device="cpu")


def requests_of(folder: Path, count: int) -> list[FrameRequest]:
    """The same frames for either side: of episode i, 8 of the 200 of one of the videos."""
    videos = sorted(folder.glob("*.mp4"))
    steps = tuple((2 * i + 1) * STEPS // (2 * FRAMES_PER_EPISODE) for i in range(FRAMES_PER_EPISODE))
    at = tuple(step * 1_000_000_000 // RATE_HZ for step in steps)
    return [
        FrameRequest(f"{i:06d}", VideoRef(str(videos[i % len(videos)]), 0, STEPS * 50_000_000), steps, at)
        for i in range(count)
    ]


def digest(found: Embedded) -> int:
    """A number of a block's stored bytes."""
    return zlib.crc32(found.key.encode() + found.codes.tobytes() + found.scales.tobytes())


def decoded(request: FrameRequest) -> FrameBlock:
    """PyAV in this process, one thread: no child, no pipe."""
    assert isinstance(request.ref, VideoRef)
    frames = [frame for _, frame in video_squares(request.ref.uri, request.at, PARAMS.pixels, Decoding())]
    return FrameBlock(request.ids, tuple(frames), request.key)


def in_turn(requests: Sequence[FrameRequest]) -> Iterator[FrameBlock]:
    """Decode, then give: the plain loop."""
    return map(decoded, requests)


def ahead(requests: Sequence[FrameRequest]) -> Iterator[FrameBlock]:
    """Decode two ahead in a thread, as a loop does that somebody tuned."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(decoded, request) for request in requests[:2]]
        for request in [*requests[2:], None, None]:
            if request is not None:
                waiting.append(pool.submit(decoded, request))
            if waiting:
                yield waiting.pop(0).result()


def bare(requests: Sequence[FrameRequest], look_ahead: bool) -> int:
    """Load the model, then decode and embed, block by block; the sum of digests."""
    model = FrameEmbeddingHandler(EFFICIENTNET, "cpu", FRAMES_PER_EPISODE).load_model()
    blocks = (ahead if look_ahead else in_turn)(requests)
    return sum(digest(embed(block, model, FRAMES_PER_EPISODE)) for block in blocks)


def pipeline(requests: Sequence[FrameRequest], root: beam.Pipeline, target: str) -> None:
    """The transform that curating uses; its digests are summed into a file."""
    _ = (
        root
        | "Requests" >> beam.Create(requests).with_output_types(FrameRequest)
        | "Embed" >> EmbedFrames(PARAMS, read_images)
        | "Digest" >> beam.Map(digest).with_output_types(int)
        | "Sum" >> beam.CombineGlobally(sum)
        | "Keep" >> beam.Map(lambda total: Path(target).write_text(str(total)))
    )


def clocked(runs: Iterable[tuple[str, Sequence[FrameRequest]]], side: str) -> dict[str, object]:
    """Seconds and digests of each run of a side."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, object] = {}
    if side != "pipeline":
        for name, requests in runs:
            started = time.perf_counter()
            total = bare(requests, side == "ahead")
            found[name] = [time.perf_counter() - started, total]
        return found
    from beam_pipeline.runner import PipelineExecutor, PipelineLifecycleManager

    options = PipelineOptions(["--ray_workers_max=1", "--ray_progress=off", "--ray_bundle_seconds=60"])
    with PipelineLifecycleManager(), tempfile.TemporaryDirectory() as folder:
        for name, requests in runs:
            target = f"{folder}/{name}"
            started = time.perf_counter()
            executor = PipelineExecutor("RayRunner", options)
            executor.run(lambda root, requests=requests, target=target: pipeline(requests, root, target))  # type: ignore[misc]
            found[name] = [time.perf_counter() - started, int(Path(target).read_text())]
    return found


def main() -> None:
    """Run one side: once to start what starts once, then few and many."""
    side, folder, count, few = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    sizes = (("first", few), ("few", few), ("many", count))
    print(json.dumps(clocked([(name, requests_of(folder, size)) for name, size in sizes], side)))


if __name__ == "__main__":
    main()
