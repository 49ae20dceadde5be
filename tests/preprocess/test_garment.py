"""Garment images: their masks, and garments cut out of the video."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from media import frames
from preprocess.garment import GarmentMask
from preprocess.garment_crop import GarmentCrop
from schemas import artifacts
from schemas.clip import Clip
from schemas.conditions import Label
from tests.clips import shared
from tests.preprocess import worn

FLAT = {"00057_00": "upper", "00126_00": "upper", "051985_1": "lower", "051990_1": "lower"}


def mask_of(image: np.ndarray, *, part: str = "upper") -> np.ndarray:
    worn.need_models()
    clip = worn.encode(np.zeros((1, 32, 32, 3), np.uint8), part=part)
    clip.pair = clip.pair.model_copy(update={"garment": "garment.png"})
    clip.artifacts["garment"] = image
    GarmentMask().process(clip)
    artifacts.check("garment_mask", clip.artifacts["garment_mask"], clip)
    return clip.artifacts["garment_mask"]


def flat(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A product image and its mask."""
    image = cv2.imread(str(shared(f"clips/vivid/cloth/{name}.jpg")))
    mask = cv2.imread(str(shared(f"clips/vivid/cloth_mask/{name}.jpg")), cv2.IMREAD_GRAYSCALE)
    return np.ascontiguousarray(image[..., ::-1]), mask > 127


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sum(one & other) / np.sum(one | other))


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (40, 300)])
def test_blank_images_have_no_garment(size: tuple[int, int]) -> None:
    assert not mask_of(np.full((*size, 3), 255, np.uint8)).any()


def test_noise_is_survived() -> None:
    mask_of(np.random.default_rng(0).integers(0, 256, (97, 61, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", FLAT)
def test_product_images(name: str) -> None:
    image, truth = flat(name)
    assert overlap(mask_of(image, part=FLAT[name]), truth) >= 0.98


def test_white_garment_on_a_pale_background() -> None:
    image, truth = flat("00057_00")
    grey = image.mean(2, keepdims=True)
    image[truth] = (225 + 30 * grey / 255).astype(np.uint8)[truth]
    assert overlap(mask_of(image), truth) >= 0.97


def test_garment_that_somebody_wears() -> None:
    clip = worn.prepared("lower1")
    mask = mask_of(frames(clip).images[0], part="lower")
    assert overlap(mask, worn.truth("lower1", 0, "garment")) > 0.9


@pytest.mark.parametrize("name", ["lower1", "upper1"])
def test_garment_is_cut_out_whole(name: str) -> None:
    clip = worn.prepared(name)
    GarmentCrop().process(clip)
    for artifact in ("garment", "garment_mask"):
        artifacts.check(artifact, clip.artifacts[artifact], clip)
    image, mask = clip.artifacts["garment"], clip.artifacts["garment_mask"]
    assert (image[~mask] == 255).all()
    assert not mask[[0, -1]].any()
    assert not mask[:, [0, -1]].any()
    seen = [worn.truth(name, frame, "garment").sum() for frame in worn.TRUTH_FRAMES[name]]
    assert 0.85 * min(seen) < mask.sum() < 1.3 * max(seen)
    assert clip.metrics["crop_short_side"] == min(mask.shape) > 150
    assert GarmentCrop().decide(clip.metrics) is None


def test_mask_of_the_cut_is_left_alone() -> None:
    clip = worn.prepared("lower1")
    GarmentCrop().process(clip)
    mask = clip.artifacts["garment_mask"]
    GarmentMask().process(clip)
    assert clip.artifacts["garment_mask"] is mask


def test_the_frame_that_hides_least_is_cut() -> None:
    labels = worn.drawn_labels(5)
    labels[labels == Label.LEFT_ARM] = Label.BACKGROUND
    labels[:, 76:165, 86:154][labels[:, 76:165, 86:154] == Label.BACKGROUND] = Label.UPPER_CLOTHES
    labels[[0, 1, 3, 4], 90:140, 90:150] = Label.LEFT_ARM
    clip = drawn_clip(labels)
    GarmentCrop().process(clip)
    assert clip.artifacts["garment_mask"].sum() > 0.95 * np.sum(labels[2] == Label.UPPER_CLOTHES)


def test_no_garment_to_cut_is_dropped_by_its_size() -> None:
    clip = drawn_clip(np.zeros((3, *worn.DRAWN), np.uint8))
    GarmentCrop().process(clip)
    assert "garment" not in clip.artifacts
    drop = GarmentCrop().decide(clip.metrics)
    assert drop is not None
    assert (drop.metric, drop.value) == ("crop_short_side", 0)


def test_pair_with_an_image_keeps_it() -> None:
    clip = drawn_clip(worn.drawn_labels(2))
    clip.pair = clip.pair.model_copy(update={"garment": "garment.png"})
    GarmentCrop().process(clip)
    assert "garment" not in clip.artifacts
    assert not clip.metrics


def drawn_clip(labels: np.ndarray) -> Clip:
    clip = worn.encode(np.full((len(labels), *worn.DRAWN, 3), 99, np.uint8))
    clip.artifacts |= {"parsing": labels, "pose": worn.drawn_pose(len(labels))}
    return clip
