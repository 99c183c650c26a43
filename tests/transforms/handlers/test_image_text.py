"""Frames and texts in one space, by a small open_clip model that is initialised at random and saved.

That holds the handler to open_clip's own vectors. Whether words find pictures needs trained weights, which no wheel
ships: OPEN_CLIP_MODEL names some.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.torchvision_operators import declare_operators
from tests.transforms.handlers.test_frame_embedding import picture
from transforms.handlers.blocks import FrameBlock, TextBlock
from transforms.handlers.embedding import embed
from transforms.handlers.image_text import ImageTextHandler

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    declare_operators()
    import open_clip
    import torch

    torch.manual_seed(3)
    target = tmp_path_factory.mktemp("clip") / "tiny-clip"
    target.mkdir()
    cfg = {key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()}
    net = open_clip.CLIP(**cfg)
    torch.save(net.state_dict(), target / "open_clip_pytorch_model.bin")
    preprocess = {
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    config = {"model_cfg": TINY, "preprocess_cfg": preprocess}
    (target / "open_clip_config.json").write_text(json.dumps(config))
    return target


def test_both_towers_give_open_clips_vectors(folder: Path) -> None:
    import open_clip
    import torch

    handler = ImageTextHandler(f"local-dir:{folder}", "cpu", batch_rows=4)
    encoder = handler.load_model()
    net, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    texts = ("pick up the cube", "open the drawer", "wipe the table")
    frames = tuple(picture(seed, 64 + 32 * seed) for seed in range(3))
    ours_text = embed(TextBlock(tuple("abc"), texts), encoder, 4)
    ours_image = embed(FrameBlock(tuple("abc"), frames), encoder, 4)
    with torch.inference_mode():
        text = net.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(list(texts)), normalize=True).numpy()
        shown = torch.stack([preprocess(Image.fromarray(frame)) for frame in frames])
        image = net.encode_image(shown, normalize=True).numpy()
    assert np.abs(ours_text.vectors() - text).max() < 2**-7
    assert np.abs(ours_image.vectors() - image).max() < 2**-6
    assert ours_text.revision == ours_image.revision and ours_text.model == "tiny-clip"
    assert ours_text.codes.shape == ours_image.codes.shape == (3, 32), "they compare"


def test_words_find_pictures_with_trained_weights() -> None:
    model = os.environ.get("OPEN_CLIP_MODEL")
    if not model:
        pytest.skip("OPEN_CLIP_MODEL names no weights (local-dir:FOLDER): this handler was never run with trained ones")
    declare_operators()
    encoder = ImageTextHandler(model, "cpu").load_model()
    colours = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
    pictures = []
    for colour in colours.values():
        shown = Image.new("RGB", (256, 256), (235, 235, 235))
        ImageDraw.Draw(shown).ellipse((60, 60, 200, 200), fill=colour)
        pictures.append(np.asarray(shown))
    texts = tuple(f"a photo of a {name} ball" for name in colours)
    frames = embed(FrameBlock(tuple(colours), tuple(pictures)), encoder, 4)
    words = embed(TextBlock(tuple(colours), texts), encoder, 4)
    assert (frames.vectors() @ words.vectors().T).argmax(1).tolist() == [0, 1, 2, 3]


def test_weights_that_are_not_there_are_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="open_clip model 'ViT-B-32': name weights by `local-dir:FOLDER` or `hf-hub:"):
        ImageTextHandler("ViT-B-32")
    with pytest.raises(FileNotFoundError, match=r"no model of open_clip lies there \(no open_clip_config.json\)"):
        ImageTextHandler(f"local-dir:{tmp_path}", "cpu").load_model()
    (tmp_path / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    with pytest.raises(RuntimeError, match="Required pretrained weights"):
        ImageTextHandler(f"local-dir:{tmp_path}", "cpu").load_model()


def test_builds_that_do_not_fit_are_named() -> None:
    from importlib.metadata import version

    import torch

    if torch.version.cuda is not None or "+cpu" in version("torchvision"):
        pytest.skip("torch and torchvision are of one build here")
    code = "from transforms.handlers.torchvision_errors import imported; imported('open_clip')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = ended.stderr.strip().splitlines()[-1]
    assert "open_clip cannot be imported: torch " in last and "are of different builds" in last, last
    assert last.endswith("install both from the same index, for CPU or for CUDA")
