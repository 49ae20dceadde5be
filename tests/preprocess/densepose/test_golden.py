"""The arithmetic of detectron2's DensePose R-CNN, on synthetic weights (../shared/golden/densepose)."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from preprocess.densepose import boxes as box
from preprocess.densepose.detector import ANCHOR_SIZES, BOX_WEIGHTS, anchors, cell_anchors, pool_boxes
from preprocess.densepose.heads import Surfaces
from preprocess.densepose.model import DensePoseRCNN, Features
from preprocess.densepose.pictures import network_input, resize, resized_size
from preprocess.densepose.regions import Windows, roi_align
from preprocess.densepose.surface import as_bytes, patch_of, resample
from tests.clips import shared
from tests.preprocess.densepose.networks import FOLDER, VARIANTS, golden_module, golden_network

SMALL, LARGE = "formula_256x192_small", "formula_320x320"
ONE = torch.zeros(4, dtype=torch.int64)
"""All boxes lie in the first picture."""

Arrays = dict[str, np.ndarray]


@cache
def golden(variant: str, image: str) -> Arrays:
    return dict(np.load(shared(f"{FOLDER}/{variant}__{image}.npz")))


@pytest.mark.parametrize("image", [SMALL, LARGE, "formula_256x192", "astronaut_256"])
def test_pictures_are_resized_to_the_byte(image: str) -> None:
    arrays = golden("s1x", image)
    height, width, *size = arrays["sizes"].tolist()
    pictures = torch.from_numpy(arrays["image_bgr"]).flip(-1)[None]
    assert list(resized_size(height, width, shortest=256 if image == SMALL else 800)) == size
    resized = resize(pictures, tuple(size)).flip(-1)
    assert zlib.crc32(resized.contiguous().numpy().tobytes()) == int(arrays["resized_crc32"])
    fed = network_input(pictures, tuple(size), dtype=torch.float32)
    np.testing.assert_array_equal(fed[:, :, ::16, ::16], arrays["input_sub"])


@torch.inference_mode()
def produced(network: DensePoseRCNN, arrays: Arrays, *, detector: bool) -> Arrays:
    """Arrays by the names of the golden README; those of the inside of the detector only with `detector`."""
    height, width, *size = arrays["sizes"].tolist()
    pictures = network_input(torch.from_numpy(arrays["image_bgr"]).flip(-1)[None], size, dtype=torch.float32)
    features = network.features(pictures)
    pyramid = network.finish(features)
    made: dict[str, Tensor] = {}
    if detector:
        made |= _backbone(network, pictures, pyramid, small=min(size) == 256)
        made |= _proposals(network, pyramid, size) | _given(network, pyramid, torch.from_numpy(arrays["given_boxes4"]))
    (found,) = network.detect(pyramid, tuple(size))
    scale = torch.tensor([width / size[1], height / size[0]] * 2)
    shown = box.clip(found.boxes * scale, (height, width))
    made |= {"det_boxes_net": found.boxes, "det_boxes": shown, "det_scores": found.scores}
    made |= _patches("det", network.surfaces(features, found.boxes[:2], ONE[:2]), shown)
    given = torch.from_numpy(arrays["dp_boxes_net"])
    surfaces = network.surfaces(pyramid, given, ONE[:2])
    shown = box.clip(given * scale, (height, width))
    made |= {"dp_boxes_img": shown} | _raw(surfaces) | _patches("dp", surfaces, shown)
    if min(size) == 256:
        made |= _inside(network, pyramid, given)
    return {name: tensor.numpy() for name, tensor in made.items()}


def _backbone(network: DensePoseRCNN, pictures: Tensor, pyramid: Features, *, small: bool) -> dict[str, Tensor]:
    def step(pixels: int) -> slice:
        return slice(None, None, max(1, pixels // 4) if small else pixels)

    bottom_up, (p2, p3, p4, p5) = network.backbone.bottom_up, pyramid.levels
    made = {"stem_sub": bottom_up.stem(pictures)[:, ::8, step(16), step(16)]}
    for number, (stage, pixels) in enumerate(zip(bottom_up(pictures), (16, 8, 4, 2), strict=True), 2):
        made[f"res{number}_sub"] = stage[:, :: stage.shape[1] // 16, step(pixels), step(pixels)]
    head = network.proposal_generator.rpn_head
    for number, (level, pixels) in enumerate(
        zip((p2, p3, p4, p5, p5[:, :, ::2, ::2]), (8, 4, 2, 1, 1), strict=True), 2
    ):
        logits, deltas = head(level)
        made[f"p{number}_sub"] = level[:, ::16, step(pixels), step(pixels)]
        made[f"rpn_p{number}_logits_sub"] = logits[:, :, step(pixels), step(pixels)]
        made[f"rpn_p{number}_deltas_sub"] = deltas[:, :, step(pixels), step(pixels)]
    return made


def _proposals(network: DensePoseRCNN, pyramid: Features, size: list[int]) -> dict[str, Tensor]:
    found = network.proposal_generator(pyramid.levels, tuple(size))
    there = found.there[0]
    first = [anchors(side, 4, 4, stride=4 << level)[:6] for level, side in enumerate(ANCHOR_SIZES)]
    return {
        "cell_anchors": torch.cat([cell_anchors(side) for side in ANCHOR_SIZES]), "anchors_first6": torch.stack(first),
        "proposal_count": there.sum(), "proposal_boxes": found.boxes[0][there],
        "proposal_logits": found.logits[0][there],
    }  # fmt: skip


def _given(network: DensePoseRCNN, pyramid: Features, boxes: Tensor) -> dict[str, Tensor]:
    logits, deltas = network.judge(pyramid, boxes, ONE)
    return {
        "box_pool_sub": pool_boxes(pyramid.levels, boxes, ONE)[:, ::8], "box_cls_logits": logits,
        "box_scores": logits.softmax(-1), "box_deltas": deltas,
        "box_decoded": box.decode(boxes, deltas, weights=BOX_WEIGHTS),
    }  # fmt: skip


def _inside(network: DensePoseRCNN, pyramid: Features, boxes: Tensor) -> dict[str, Tensor]:
    whole = Windows.everything(1, tuple(pyramid.levels[3].shape[2:]))
    decoded = network.roi_heads.decoder(pyramid.levels, whole)
    pooled = roi_align(decoded, boxes, ONE[:2], stride=4, size=28)
    hidden = network.roi_heads.densepose_head(pooled)
    made = {
        "dp_decoder_sub": decoded[:, ::16, ::2, ::2],
        "dp_pool_sub": pooled[:, ::16],
        "dp_head_sub": hidden[:, ::32],
    }
    if hasattr(network.roi_heads.densepose_head, "ASPP"):
        made["dp_aspp_sub"] = network.roi_heads.densepose_head.ASPP(pooled)[:, ::16]
    return made


def _raw(surfaces: Surfaces) -> dict[str, Tensor]:
    maps = {
        "dp_coarse_segm": surfaces.coarse, "dp_fine_segm": surfaces.fine, "dp_u": surfaces.u, "dp_v": surfaces.v
    }  # fmt: skip
    return {
        **{f"{name}_sub": values[:, :, 1::5, 1::5] for name, values in maps.items()},
        **{f"{name}_shape": torch.tensor(values.shape) for name, values in maps.items()},
        "dp_coarse_argmax": surfaces.coarse.argmax(1), "dp_fine_argmax": surfaces.fine.argmax(1),
    }  # fmt: skip


def _patches(name: str, surfaces: Surfaces, shown: Tensor) -> dict[str, Tensor]:
    made = {}
    for number in range(2):
        _, _, width, height = patch_of(shown[number])
        part, uv = resample(surfaces, number, (height, width))
        made |= {
            f"{name}{number}_labels": part,
            f"{name}{number}_uv": uv,
            f"{name}{number}_iuv_u8": torch.cat([part[None], as_bytes(uv)]),
        }
    return made


def failures(variant: str, image: str, made: Arrays) -> list[str]:
    """What is not within the tolerances of the golden README."""
    lines = golden_module("compare").compare(shared(f"{FOLDER}/{variant}__{image}.npz"), made)
    assert len(lines) == len(made.keys() & golden(variant, image).keys())
    return [line for line in lines if line.startswith("FAIL")]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_step_of_a_small_picture(variant: str) -> None:
    plain = variant == "s1x"  # the detector is the same in both
    made = produced(golden_network(variant), golden(variant, SMALL), detector=plain)
    assert len(made.keys() & golden(variant, SMALL).keys()) >= (50 if plain else 20)
    assert failures(variant, SMALL, made) == []


@pytest.mark.slow
def test_people_and_their_surfaces_at_the_published_size() -> None:
    made = produced(golden_network("s1x"), golden("s1x", LARGE), detector=False)
    assert failures("s1x", LARGE, made) == []
