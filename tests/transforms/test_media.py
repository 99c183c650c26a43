from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import jpeg, write_video
from transforms.episode import VideoRef
from transforms.media import MediaDecoder, MediaParams, shared_decoder
from transforms.media_light import measure_luma
from transforms.sources.png import encode_png
from transforms.stage import Unreadable

ALL = 10**15


@pytest.fixture(scope="module")
def decoder() -> Iterator[MediaDecoder]:
    with MediaDecoder(MediaParams(timeout_s=20)) as media:
        yield media


def write_frames(path: Path, frames: list[np.ndarray], pts_ms: list[int], codec: str = "mpeg4", gop: int = 6) -> None:
    """Frames at given stamps of a millisecond clock: variable rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, pts in zip(frames, pts_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = pts
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def flat(value: int, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def rule_of(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Unreadable) as caught:
        call()
    return caught.value.problem.rule, caught.value.problem.detail


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_is_read_from_packets(tmp_path: Path, decoder: MediaDecoder, suffix: str) -> None:
    stamps = [0, 40, 95, 100, 300, 1000, 1033, 1500]
    path = tmp_path / f"a.{suffix}"
    write_frames(path, [flat(50)] * 8, stamps)
    info = decoder.probe(str(path))
    assert info.pts_ns.tolist() == [s * 1_000_000 for s in stamps]
    assert (info.codec, info.width, info.height, info.n_keyframes) == ("mpeg4", 64, 64, 2)


def test_webm_and_canonical_codec_names(tmp_path: Path, decoder: MediaDecoder) -> None:
    path = tmp_path / "a.webm"
    write_frames(path, [flat(20 * i) for i in range(4)], [0, 50, 100, 150], codec="libvpx-vp9")
    assert decoder.probe(str(path)).codec == "vp9"
    assert len(decoder.video_stats(VideoRef(str(path), 0, ALL)).pts_ns) == 4


def test_measurements_of_known_pictures(tmp_path: Path, decoder: MediaDecoder) -> None:
    halves = flat(0)
    halves[:, 32:] = 255
    path = tmp_path / "a.mp4"
    write_frames(path, [flat(0), flat(0), flat(255), flat(128), halves], [0, 40, 80, 120, 160], gop=1)
    stats = decoder.video_stats(VideoRef(str(path), 0, ALL))
    np.testing.assert_allclose(stats.mean_luma, [0, 0, 255, 128, 127.5], atol=2.0)
    np.testing.assert_allclose(stats.std_luma, [0, 0, 0, 0, 127.5], atol=2.0)
    np.testing.assert_allclose(stats.clipped_low, [1, 1, 0, 0, 0.5], atol=0.02)
    np.testing.assert_allclose(stats.clipped_high, [0, 0, 1, 0, 0.5], atol=0.02)
    np.testing.assert_allclose(stats.motion, [0, 0, 255, 127, 127.5], atol=3.0)
    assert stats.identical.tolist() == [False, True, False, False, False]


def test_a_window_is_the_same_frames_as_the_whole(tmp_path: Path, decoder: MediaDecoder) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 40)
    whole = decoder.video_stats(VideoRef(str(path), 0, ALL))
    start, end = int(whole.pts_ns[17]), int(whole.pts_ns[23])
    part = decoder.video_stats(VideoRef(str(path), start, end))
    assert part.pts_ns.tolist() == whole.pts_ns[17:24].tolist()
    assert part.mean_luma.tolist() == whole.mean_luma[17:24].tolist()
    assert part.motion[0] == 0 and part.motion[1:].tolist() == whole.motion[18:24].tolist()


def test_a_window_that_begins_with_a_keyframe_is_decoded_from_it(tmp_path: Path, decoder: MediaDecoder) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 24, fps=7)  # a period that is no whole number of ns
    whole = decoder.video_stats(VideoRef(str(path), 0, ALL))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 12]
    content = bytearray(path.read_bytes())
    for packet in packets[1:12]:
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    part = decoder.video_stats(VideoRef(str(path), int(whole.pts_ns[12]), ALL))
    assert part.mean_luma.tolist() == whole.mean_luma[12:].tolist()
    assert rule_of(lambda: decoder.video_stats(VideoRef(str(path), int(whole.pts_ns[11]), ALL)))[0] == "corrupt"


def test_frames_come_in_bounded_chunks(tmp_path: Path, decoder: MediaDecoder) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 30)
    chunks = list(decoder.decode_frames(VideoRef(str(path), 0, ALL), limit=7))
    assert sum(len(c.frames) for c in chunks) == 7
    with av.open(str(path)) as container:
        expected = [f.to_ndarray(format="rgb24") for _, f in zip(range(7), container.decode(video=0), strict=False)]
    np.testing.assert_array_equal(np.concatenate([c.frames for c in chunks]), np.stack(expected))
    assert next(iter(decoder.decode_frames(VideoRef(str(path), 0, ALL)))).frames.dtype == np.uint8


def test_images_jpeg_png_and_depth(decoder: MediaDecoder) -> None:
    depth = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    stats = decoder.image_stats([encode_png(flat(200)), encode_png(flat(200)), jpeg(1), encode_png(depth)])
    assert stats.pts_ns.tolist() == [0, 1, 2, 3]
    assert abs(stats.mean_luma[0] - 200) < 1.5 and stats.identical.tolist()[:2] == [False, True]
    (chunk,) = decoder.decode_images([encode_png(depth)], depth=True)
    np.testing.assert_array_equal(chunk.frames[0], depth)


@pytest.mark.parametrize(
    ("image", "rule", "words"),
    [
        (b"", "empty", "image 1 of 2"),
        (b"not a picture", "wrong_format", "neither JPEG nor PNG"),
        (jpeg(1)[:200], "corrupt", "image 1 of 2"),
        (encode_png(flat(3))[:60], "corrupt", "png"),
    ],
)
def test_broken_images_are_named(decoder: MediaDecoder, image: bytes, rule: str, words: str) -> None:
    found, detail = rule_of(lambda: decoder.image_stats([jpeg(0), image]))
    assert found == rule and words in detail


def test_a_picture_that_claims_too_many_pixels(decoder: MediaDecoder) -> None:
    image = bytearray(encode_png(flat(3)))
    image[16:24] = (60000).to_bytes(4, "big") * 2
    assert rule_of(lambda: decoder.image_stats([bytes(image)]))[0] == "corrupt"
    with MediaDecoder(MediaParams(max_pixels=1000)) as small:
        assert rule_of(lambda: small.image_stats([jpeg(0)]))[0] == "corrupt"


def test_a_video_that_claims_too_many_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 3)
    with MediaDecoder(MediaParams(max_pixels=1000)) as small:
        rule, detail = rule_of(lambda: small.probe(str(path)))
    assert rule == "absurd_size" and "64x64" in detail and "1000" in detail


def damaged(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    body = data.find(b"mdat")
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "text":
        path.write_text("this is no video\n" * 100)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "no_video":
        path.write_bytes(data[:32])
    else:
        for at in range(body + 200, body + 1200, 40):
            data[at] ^= 0x5A
        path.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "rule", "words"),
    [
        ("cut", "truncated", "is cut off"),
        ("no_video", "truncated", "the file has 32"),
        ("text", "wrong_format", "begins with b'this is no v'"),
        ("empty", "empty", "0 bytes"),
        ("flip", "corrupt", "decoding failed"),
    ],
)
def test_broken_videos_are_named(tmp_path: Path, decoder: MediaDecoder, how: str, rule: str, words: str) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, 40)
    damaged(path, how)
    found, detail = rule_of(lambda: decoder.video_stats(VideoRef(str(path), 0, ALL)))
    assert found == rule and words in detail and "a.mp4" in detail


def test_an_absent_file(tmp_path: Path, decoder: MediaDecoder) -> None:
    rule, detail = rule_of(lambda: decoder.probe(str(tmp_path / "gone.mp4")))
    assert rule == "absent" and "gone.mp4" in detail


def test_a_file_cut_behind_its_index_still_gives_what_it_holds(tmp_path: Path, decoder: MediaDecoder) -> None:
    path = tmp_path / "a.mp4"
    images = [np.random.default_rng(i).integers(0, 255, (64, 64, 3), dtype=np.uint8) for i in range(30)]
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = 64
        stream.gop_size = 5
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    data = path.read_bytes()
    path.write_bytes(data[: data.find(b"mdat") + (len(data) - data.find(b"mdat")) // 2])
    info = decoder.probe(str(path))
    assert info.n_declared == 30 and 5 < len(info.pts_ns) < 30
    assert len(decoder.video_stats(VideoRef(str(path), 0, int(info.pts_ns[4]))).pts_ns) == 5
    assert rule_of(lambda: decoder.video_stats(VideoRef(str(path), 0, int(29 * 5e7))))[0] == "truncated"


def test_a_hanging_child_is_ended_and_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hang.mp4")
    write_video(tmp_path / "good.mp4", 5)
    with MediaDecoder(MediaParams(timeout_s=6.0)) as media:
        assert len(media.probe(str(tmp_path / "good.mp4")).pts_ns) == 5
        first = media.child_pid
        began = time.monotonic()
        rule, detail = rule_of(lambda: media.probe(str(tmp_path / "hang.mp4")))
        assert time.monotonic() - began < 14
        assert rule == "unreadable" and "silent for 6 s" in detail and "timeout_s" in detail
        assert media.child_pid is None and first is not None
        assert len(media.probe(str(tmp_path / "good.mp4")).pts_ns) == 5
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)


def test_a_killed_child_is_an_error_and_the_next_request_works(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hang.mp4")
    write_video(tmp_path / "good.mp4", 5)
    with MediaDecoder(MediaParams(timeout_s=20)) as media:
        media.probe(str(tmp_path / "good.mp4"))
        child = media.child_pid
        assert child is not None
        killer = threading.Timer(0.3, os.kill, (child, signal.SIGKILL))
        killer.start()
        rule, detail = rule_of(lambda: media.probe(str(tmp_path / "hang.mp4")))
        killer.join()
        assert rule == "unreadable" and "exit status -9" in detail
        assert len(media.probe(str(tmp_path / "good.mp4")).pts_ns) == 5
        idle = media.child_pid
        assert idle is not None and idle != child
        os.kill(idle, signal.SIGKILL)
        time.sleep(0.1)
        assert len(media.probe(str(tmp_path / "good.mp4")).pts_ns) == 5


def test_an_abandoned_iterator_ends_its_child(tmp_path: Path, decoder: MediaDecoder) -> None:
    write_video(tmp_path / "a.mp4", 40)
    before = children()
    frames = decoder.decode_frames(VideoRef(str(tmp_path / "a.mp4"), 0, ALL))
    next(frames)
    assert len(children()) == len(before) + 1
    assert isinstance(frames, Generator)
    frames.close()
    assert children() == before


def children() -> set[str]:
    listed = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "media_worker"], capture_output=True, text=True)
    return set(listed.stdout.split())


def _pid_of_shared(path: str, out: multiprocessing.connection.Connection) -> None:
    shared_decoder().probe(path)
    out.send((shared_decoder().child_pid, id(shared_decoder())))
    shared_decoder().close()


def test_a_forked_process_gets_its_own_child(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 5)
    path = str(tmp_path / "a.mp4")
    shared_decoder().probe(path)
    mine = shared_decoder().child_pid
    assert shared_decoder() is shared_decoder()
    context = multiprocessing.get_context("fork")
    parent, child = context.Pipe()
    process = context.Process(target=_pid_of_shared, args=(path, child))
    process.start()
    theirs, _ = parent.recv()
    process.join(20)
    assert process.exitcode == 0 and theirs != mine
    assert len(shared_decoder().probe(path).pts_ns) == 5 and shared_decoder().child_pid == mine


def test_threads_share_one_child(tmp_path: Path, decoder: MediaDecoder) -> None:
    for n in range(4):
        write_video(tmp_path / f"{n}.mp4", 5 + n, seed=n)
    counts: dict[int, int] = {}

    def count(n: int) -> None:
        counts[n] = len(decoder.video_stats(VideoRef(str(tmp_path / f"{n}.mp4"), 0, ALL)).pts_ns)

    threads = [threading.Thread(target=count, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {0: 5, 1: 6, 2: 7, 3: 8}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"memory_bytes": 1000}, "memory_bytes is 1000"),
        ({"thread_count": 0}, "thread_count is 0"),
        ({"max_pixels": 0}, "max_pixels is 0"),
    ],
)
def test_parameters_are_checked(values: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MediaParams(**values)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**32 - 1), st.booleans())
def test_luma_of_any_shape_agrees_with_numpy(height: int, width: int, seed: int, full: bool) -> None:
    luma = np.random.default_rng(seed).integers(16, 236, (height, width), dtype=np.uint8)
    light = measure_luma(luma, full)
    shown = luma.astype(float) if full else (luma.astype(float) - 16) * 255 / 219
    cells = min(64, height)
    used = shown[((np.arange(cells * (height // cells)) + 0.5) * height / (cells * (height // cells))).astype(int)]
    assert light.mean == pytest.approx(used.mean(), abs=1e-9)
    assert light.std == pytest.approx(used.std(), abs=1e-6)
    assert light.clipped_high == pytest.approx((used >= 250).mean())
    assert light.clipped_low == pytest.approx((used <= 5).mean())
    assert light.grid.shape == (cells, min(64, width))


GR00T = "gr00t/robot_sim.PickNPlace/videos/chunk-000/observation.images.ego_view/episode_000001.mp4"
G1 = "lerobot_v21_g1/videos/chunk-000/observation.images.cam_high/episode_000001.mp4"


@pytest.mark.parametrize(
    ("name", "codec", "size", "frames", "period_ns"),
    [(GR00T, "h264", (256, 256), 470, 50_000_000), (G1, "av1", (640, 480), 393, 33_333_333)],
)
def test_real_videos(
    robot_data: Path, decoder: MediaDecoder, name: str, codec: str, size: tuple[int, int], frames: int, period_ns: int
) -> None:
    path = str(robot_data / name)
    info = decoder.probe(path)
    assert (info.codec, (info.width, info.height), len(info.pts_ns)) == (codec, size, frames)
    assert int(np.median(np.diff(info.pts_ns))) == period_ns
    end = int(info.pts_ns[59])
    stats = decoder.video_stats(VideoRef(path, 0, end))
    assert stats.pts_ns.tolist() == info.pts_ns[:60].tolist()
    with av.open(path) as container:
        grey = [f.to_ndarray(format="gray") for _, f in zip(range(60), container.decode(video=0), strict=False)]
    np.testing.assert_allclose(stats.mean_luma, [g.mean() for g in grey], atol=1.5)
    np.testing.assert_allclose(stats.std_luma, [g.std() for g in grey], atol=2.0)
    middle = decoder.video_stats(VideoRef(path, int(info.pts_ns[50]), end))
    assert middle.mean_luma.tolist() == stats.mean_luma[50:].tolist()


def test_the_shared_decoder_takes_the_limits_of_the_job(tmp_path: Path) -> None:
    from transforms.media import limit_shared_decoder

    fifo = tmp_path / "hangs.mp4"
    os.mkfifo(fifo)
    limit_shared_decoder(MediaParams(timeout_s=0.5))
    try:
        with pytest.raises(Unreadable, match=r"0\.5 s"):
            shared_decoder().probe(str(fifo))
    finally:
        limit_shared_decoder(MediaParams())


@pytest.mark.parametrize(("name", "codec", "expected"), [("a.mp4", "mpeg4", "mpeg4"), ("a.webm", "libvpx-vp9", "vp9")])
def test_a_header_without_a_packet(decoder: MediaDecoder, tmp_path: Path, name: str, codec: str, expected: str) -> None:
    path = tmp_path / name
    write_frames(path, [flat(20 * i) for i in range(10)], [50 * i for i in range(10)], codec=codec)
    header = decoder.header(str(path))
    declared = 10 if name.endswith("mp4") else 0  # Matroska does not count its frames
    assert (header.codec, header.width, header.height, header.n_declared) == (expected, 64, 64, declared)
    assert header.duration_ns == pytest.approx(decoder.probe(str(path)).duration_ns, rel=0.15) and header.rate_hz > 0


def test_a_header_of_a_file_that_is_cut_or_gone(decoder: MediaDecoder, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    write_frames(path, [flat(9)] * 3, [0, 50, 100])
    path.rename(tmp_path / "a.mp4")
    assert decoder.header(str(tmp_path / "a.mp4")).codec == "mpeg4"  # by content, whatever its name
    whole = tmp_path / "b.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = 64
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat(90), format="rgb24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    whole.write_bytes(data[:-100])
    rule, detail = rule_of(lambda: decoder.header(str(whole)))
    assert rule == "truncated" and f"need at least {len(data)} bytes, the file has {len(data) - 100}" in detail
    rule, _ = rule_of(lambda: decoder.header(str(tmp_path / "gone.mp4")))
    assert rule == "absent"
