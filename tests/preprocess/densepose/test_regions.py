"""Regions and boxes against slow formulas of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from preprocess.densepose import boxes as box
from preprocess.densepose.detector import best_boxes
from preprocess.densepose.model import Features
from preprocess.densepose.pictures import resize, resize_on_device, resized_size
from preprocess.densepose.regions import Windows, roi_align
from tests.preprocess.densepose.networks import random_network


def sample(plane: np.ndarray, y: float, x: float) -> np.ndarray:
    """Bilinear value of (C, H, W) at one place, as RoIAlign first defined it."""
    height, width = plane.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(len(plane))
    y, x = max(y, 0.0), max(x, 0.0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    dy, dx = (y - y0 if y1 > y0 else 0.0), (x - x0 if x1 > x0 else 0.0)
    top = plane[:, y0, x0] * (1 - dx) + plane[:, y0, x1] * dx
    return top * (1 - dy) + (plane[:, y1, x0] * (1 - dx) + plane[:, y1, x1] * dx) * dy


def slow_roi_align(plane: np.ndarray, given: np.ndarray, stride: int, size: int) -> np.ndarray:
    x0, y0, x1, y1 = given / stride
    height, width = max(y1 - y0, 1.0) / size, max(x1 - x0, 1.0) / size
    pooled = np.zeros((len(plane), size, size))
    for row in range(size):
        for column in range(size):
            for i in range(2):
                for j in range(2):
                    y, x = y0 + (row + (i + 0.5) / 2) * height, x0 + (column + (j + 0.5) / 2) * width
                    pooled[:, row, column] += sample(plane, y, x) / 4
    return pooled


@pytest.mark.parametrize(("stride", "size"), [(4, 28), (8, 7), (32, 7)])
def test_roi_align_is_the_mean_of_bilinear_samples(stride: int, size: int) -> None:
    draw = np.random.default_rng(stride + size)
    features = torch.from_numpy(draw.normal(size=(3, 5, 9, 13)).astype(np.float32))
    corners = draw.uniform(-2 * stride, 15 * stride, (12, 2, 2)).astype(np.float32)
    given = np.concatenate([corners.min(1), corners.max(1)], 1)
    given[0, 2:] = given[0, :2]  # no width, no height
    given[1] = 0, 0, 13 * stride, 9 * stride
    of_image = torch.arange(12) % 3
    pooled = roi_align(features, torch.from_numpy(given), of_image, stride=stride, size=size)
    for number in range(12):
        slow = slow_roi_align(features[number % 3].numpy(), given[number], stride, size)
        np.testing.assert_allclose(pooled[number], slow, atol=2e-4)
    assert roi_align(features, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), stride=4, size=7).numel() == 0


def random_boxes(draw: np.random.Generator, count: int, spread: float) -> torch.Tensor:
    low = draw.uniform(0, spread, (count, 2))
    return torch.from_numpy(np.concatenate([low, low + draw.uniform(0, 40, (count, 2))], 1).astype(np.float32))


def slow_suppressed(boxes: np.ndarray, there: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for number in np.flatnonzero(there):
        x0, y0, x1, y1 = boxes[number]
        for other in kept:
            width = min(x1, boxes[other][2]) - max(x0, boxes[other][0])
            height = min(y1, boxes[other][3]) - max(y0, boxes[other][1])
            shared = max(width, 0) * max(height, 0)
            union = (x1 - x0) * (y1 - y0) + (boxes[other][2:] - boxes[other][:2]).prod() - shared
            if union > 0 and shared / union > threshold:
                break
        else:
            kept.append(int(number))
    return kept


@pytest.mark.parametrize("spread", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_suppression_is_greedy(spread: float, threshold: float) -> None:
    draw = np.random.default_rng(int(spread))
    groups = torch.stack([random_boxes(draw, 120, spread) for _ in range(3)])
    groups[0, ::7] = groups[0, 0]  # twins
    there = torch.from_numpy(draw.random((3, 120)) < 0.8)
    there[2] = False
    stays = box.suppressed(groups, there, threshold=threshold)
    for group in range(3):
        slow = slow_suppressed(groups[group].numpy(), there[group].numpy(), threshold)
        assert stays[group].nonzero()[:, 0].tolist() == slow


def test_a_chain_of_boxes_is_settled_link_by_link() -> None:
    chain = torch.tensor([[i * 4.0, 0, i * 4.0 + 10, 10] for i in range(50)])[None]
    stays = box.suppressed(chain, torch.ones(1, 50, dtype=torch.bool), threshold=0.4)
    assert stays[0].nonzero()[:, 0].tolist() == list(range(0, 50, 2))


def test_decoding_moves_and_grows_within_bounds() -> None:
    source = torch.tensor([[10.0, 20, 30, 60]])
    same = box.decode(source, torch.zeros(1, 4), weights=(10, 10, 5, 5))
    torch.testing.assert_close(same, source)
    moved = box.decode(source, torch.tensor([[1.0, -1, math.log(2), 100]]), weights=(1, 1, 1, 1))
    torch.testing.assert_close(moved, torch.tensor([[20.0, 0 - 40 * 31.25, 60, 40 * 31.25]]))


def test_only_sure_people_are_kept_the_best_first_none_twice() -> None:
    given = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 99, 99], [20, 20, 30, 30], [0, 0, math.nan, 9]])
    found = best_boxes(given, torch.tensor([0.5, 0.9, 0.7, 0.05, 0.9]), (60, 80))
    assert found.boxes.tolist() == [[0, 0, 10, 11], [50, 50, 80, 60]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert len(best_boxes(given[:0], torch.zeros(0), (60, 80)).boxes) == 0


CELLS = (7, 8)


@torch.inference_mode()
def test_windows_change_nothing() -> None:
    """Outside the windows of the boxes nothing is computed, and no box comes out otherwise."""
    network, draw = random_network(), torch.Generator().manual_seed(1)
    rows, columns = CELLS
    levels = [torch.randn(2, 256, rows * k, columns * k, generator=draw) for k in (8, 4, 2, 1)]
    pyramid = network.finish(Features(levels))
    decoder = network.roi_heads.decoder
    whole = decoder(pyramid.levels, Windows.everything(2, CELLS))
    height, width = 32.0 * rows, 32.0 * columns
    pairs = (
        ((100, 70, 120, 90), (width - 33, height - 30, width, height)),
        ((95.9, 64, 96, 64.1), (127.99, 127.99, 128, 128)),  # next to nothing, at the edge of a cell
        ((width - 0.1, 0, width, 1), (3, height, 3, height)),
    )
    for pair in pairs:
        boxes, of_image = torch.tensor(pair), torch.arange(2)
        windows = Windows.around(boxes, of_image, images=2, whole=CELLS)
        decoded = decoder(network.finish(Features(decoder.cut(levels, windows))).levels, windows)
        corners = windows.widened(1).corners(of_image)
        pooled = roi_align(decoded, boxes - corners, of_image, stride=4, size=28)
        torch.testing.assert_close(pooled, roi_align(whole, boxes, of_image, stride=4, size=28), atol=1e-3, rtol=0)


def test_windows_of_small_boxes_are_small() -> None:
    windows = Windows.around(
        torch.tensor([[100.0, 70, 160, 120], [170, 130, 240, 200]]), torch.tensor([0, 1]), images=2, whole=CELLS
    )
    assert (windows.height, windows.width) == (3, 3)
    assert windows.widened(1).cut(torch.zeros(2, 1, 56, 64), stride=4).shape == (2, 1, 40, 40)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((832, 624), (1067, 800)), ((256, 192), (1067, 800)), ((300, 900), (444, 1333)), ((800, 800), (800, 800)),
     ((2000, 1), (1333, 1))],
)  # fmt: skip
def test_sides_are_those_of_detectron2(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert resized_size(*size, shortest=800) == wanted


def test_resize_on_a_device_is_that_of_pillow() -> None:
    draw = np.random.default_rng(0)
    for _ in range(40):
        height, width, h, w = draw.integers(1, 120, 4).tolist()
        images = torch.from_numpy(draw.integers(0, 256, (2, height, width, 3), dtype=np.uint8))
        away = (resize_on_device(images, (h, w)).int() - resize(images, (h, w)).int()).abs().max()
        assert away <= (0 if h >= height and w >= width else 1)
        pillow = Image.fromarray(images[1].numpy()).resize((w, h), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(resize(images, (h, w))[1], np.asarray(pillow))
