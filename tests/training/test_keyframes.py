"""Keyframes by the body's motion: values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from media import draw
from schemas.errors import ConfigError
from training.keyframes import body_pictures, keyframes, pose_distance
from training.sample import Sample


def squares(*lefts: int, side: int = 8, width: int = 40) -> np.ndarray:
    """A white square on black whose left edge is at each of `lefts`: (T, side, width, 3)."""
    pictures = np.zeros((len(lefts), side, width, 3), np.uint8)
    for picture, left in zip(pictures, lefts, strict=True):
        picture[:, left : left + side] = 255
    return pictures


def sample_of(**values: Any) -> Sample:
    return {"key": "somebody-00000000", **values}  # type: ignore[typeddict-item]


class TestDistance:
    def test_of_a_picture_to_itself_is_0_and_to_one_with_nothing_in_common_1(self) -> None:
        near, far = squares(0, 8)
        assert pose_distance(near, near) == 0
        assert pose_distance(near, far) == pytest.approx(1)

    def test_of_a_square_that_moved_by_a_quarter_of_itself(self) -> None:
        # Of 64 px each, 48 are shared: the difference has 16 + 16, both have 128 together. √(32 / 128) = 1/2.
        assert pose_distance(*squares(0, 2)) == pytest.approx(0.5)

    def test_of_colours(self) -> None:
        # (3, 4, 0) against (0, 4, 0): 9 of 25 + 16.
        first, second = np.array([[[3, 4, 0]]], np.uint8), np.array([[[0, 4, 0]]], np.uint8)
        assert pose_distance(first, second) == pytest.approx(3 / math.sqrt(41))

    def test_depends_neither_on_resolution_nor_on_how_much_of_the_picture_the_person_fills(self) -> None:
        small = pose_distance(*squares(0, 2))
        assert pose_distance(*squares(0, 2).repeat(3, 1).repeat(3, 2)) == pytest.approx(small)
        assert pose_distance(*squares(0, 2, width=400)) == pytest.approx(small)

    def test_of_nobody(self) -> None:
        nobody, somebody = np.zeros((8, 40, 3), np.uint8), squares(0)[0]
        assert pose_distance(nobody, nobody) == 0
        assert pose_distance(nobody, somebody) == 1

    def test_of_a_large_picture_does_not_overflow(self) -> None:
        white = np.full((1024, 1024, 3), 255, np.uint8)
        assert pose_distance(white, np.zeros_like(white)) == 1


class TestKeyframes:
    def test_algorithm_1_by_hand(self) -> None:
        # A square of 8 px moves by 1 px a frame: √(m / 8) from where it was m px ago, 1/2 at m = 2, √3/8 = 0.61 at 3.
        moving = squares(*range(10))
        assert keyframes(moving, distance=0.6, stride=100) == [0, 3, 6, 9]
        assert keyframes(moving, distance=0.5, stride=100) == [0, 2, 4, 6, 8, 9]
        assert keyframes(moving, distance=0.6, stride=2) == [0, 2, 4, 6, 8, 9]

    def test_distance_is_to_the_last_keyframe_and_not_to_the_frame_before(self) -> None:
        assert keyframes(squares(0, 1, 2, 3, 3, 3, 2, 1, 0), distance=0.6, stride=100) == [0, 3, 8]

    def test_somebody_who_stands_still_gives_one_each_stride(self) -> None:
        assert keyframes(squares(*[5] * 11), distance=0.6, stride=5) == [0, 5, 10]
        assert keyframes(squares(*[5] * 13), distance=0.6, stride=5) == [0, 5, 10, 12]

    def test_a_distance_of_0_makes_every_frame_one(self) -> None:
        assert keyframes(squares(5, 5, 5), distance=0, stride=100) == [0, 1, 2]

    @pytest.mark.parametrize("frames", [1, 2])
    def test_first_and_last_are_always_among_them(self, frames: int) -> None:
        assert keyframes(squares(*[0] * frames), distance=1, stride=100) == list(range(frames))

    @pytest.mark.parametrize(("frames", "stride"), [(0, 4), (3, 0)])
    def test_what_cannot_be(self, frames: int, stride: int) -> None:
        with pytest.raises(ConfigError):
            keyframes(squares(*[0] * frames), distance=0.5, stride=stride)


class TestBodyPictures:
    def test_densepose_is_on_black(self) -> None:
        parts = np.zeros((2, 6, 4), np.uint8)
        parts[:, 2:4] = 3
        drawn = torch.from_numpy(draw.densepose_picture(parts)).permute(0, 3, 1, 2)
        pictures = body_pictures(sample_of(densepose=drawn, pose=torch.zeros(2, 3, 6, 4, dtype=torch.uint8)))
        assert pictures.shape == (2, 6, 4, 3)
        assert (pictures[parts == 0] == 0).all()
        assert (pictures[parts == 3] == draw.densepose_picture(parts)[0, 2, 0]).all()

    def test_without_densepose_the_poses_lines_are_as_wide_as_limbs(self) -> None:
        pose = torch.zeros(2, 3, 120, 120, dtype=torch.uint8)
        pose[0, :, :, 50] = pose[1, :, :, 55] = 255  # lines of 1 px, moved by 5: nothing in common
        first, second = body_pictures(sample_of(pose=pose))
        assert (first[60, :, 0] > 0).sum() == 10
        assert pose_distance(first, second) == pytest.approx(math.sqrt(0.5))  # of 10 px each, 5 are shared

    def test_without_either_it_is_told_what_to_decode(self) -> None:
        with pytest.raises(ConfigError, match=r"somebody-00000000.*densepose or pose"):
            body_pictures(sample_of())
