"""tensorflow-io's decoders against media written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tensorflow.media_files import depth_png, exr, wav
from transforms.sources.media_tensorflow import decode_audio, decode_depth_png, decode_exr, exr_layout
from transforms.stage import Unreadable

Z = np.linspace(0.1, 9.7, 5 * 7, dtype="f4").reshape(5, 7)
SOUND = (np.sin(np.arange(8000) / 20) * 20000).astype("i2")[:, None]


@pytest.mark.parametrize("packed", [False, True])
def test_exr_gives_every_channel_as_it_was(packed: bool) -> None:
    planes = {"R": Z.astype("f2"), "G": (Z * 2).astype("f2"), "B": (Z * 3).astype("f2"), "Z": Z}
    found = decode_exr(exr(planes, packed))
    assert sorted(found) == ["B", "G", "R", "Z"]
    for name, plane in planes.items():
        assert found[name].dtype == plane.dtype
        np.testing.assert_array_equal(found[name], plane)


def test_exr_that_is_cut_or_none_is_refused_before_it_can_end_the_process() -> None:
    whole = exr({"Z": Z})
    assert exr_layout(whole).channels == (("Z", "float32"),)
    for size in (8, 40, 200, len(whole) - 1):
        with pytest.raises(Unreadable, match=rf"EXR of {size} bytes") as cut:
            decode_exr(whole[:size])
        assert cut.value.problem.rule == "truncated"
    with pytest.raises(Unreadable, match=r"4 bytes that begin with b'junk' are no EXR file"):
        decode_exr(b"junk")
    tiled = whole[:5] + b"\x02" + whole[6:]
    with pytest.raises(Unreadable, match="tiles, deep data and parts are not read; use scan lines"):
        decode_exr(tiled)


def test_depth_keeps_sixteen_bits() -> None:
    depth = np.arange(6 * 8, dtype="u2").reshape(6, 8) * 1300
    np.testing.assert_array_equal(decode_depth_png(depth_png(depth)), depth)
    with pytest.raises(Unreadable, match="no 16-bit PNG"):
        decode_depth_png(b"\xff\xd8\xff\xe0 a JPEG")
    with pytest.raises(Unreadable, match="write it again") as damage:
        decode_depth_png(depth_png(depth)[:-30])
    assert damage.value.problem.rule == "corrupt"


def test_sound_without_loss_is_as_it_was(tf: object) -> None:
    import tensorflow_io as tfio

    stereo = np.hstack([SOUND, -SOUND])
    np.testing.assert_array_equal(decode_audio(wav(stereo)), stereo)
    np.testing.assert_array_equal(decode_audio(tfio.audio.encode_flac(SOUND, rate=8000).numpy()), SOUND)


def test_sound_with_loss_is_near_what_it_was(tf: object) -> None:
    import tensorflow_io as tfio

    heard = decode_audio(tfio.audio.encode_mp3((SOUND / 32768).astype("f4"), rate=8000).numpy())
    assert heard.dtype == np.float32 and heard.shape[1] == 1
    apart = [np.abs(heard[at : at + 4000, 0] - SOUND[:4000, 0] / 32768).mean() for at in range(1800)]
    assert min(apart) < 0.02  # an MP3 begins with a delay of its encoder


def test_other_bytes_are_no_sound() -> None:
    with pytest.raises(Unreadable, match=r"12 bytes that begin with b'no s' are no WAV, FLAC, MP3 or Ogg"):
        decode_audio(b"no sound yet")
