"""Windows of a long video: how they are cut, and what each is told, with a model that notes what it was given."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from schemas.annotation import ActionCaption
from tests.training.build import artifacts, members
from training.decoding import SampleDecoder
from training.generation_settings import GenerationSettings, LongVideoSettings
from training.long_video import generate_long, select, windows, with_known
from training.sample import Sample

SHORT = {"window": 9, "overlap": 5, "max_stride": 6, "pose_distance": 1.0}


def sample_of(frames: int) -> Sample:
    """A sample whose frame n is filled with grey n, with an action on frames 2 to 4."""
    decode = SampleDecoder(pictures=("pose", "densepose"))
    values = artifacts(frames=frames, height=32, width=16)
    values["densepose"] = values["agnostic_mask"].astype("uint8")
    sample = decode("a-00000000", members(values, key="a-00000000"), where="here")
    sample["video"] = torch.arange(frames, dtype=torch.uint8).view(-1, 1, 1, 1).expand_as(sample["video"]).clone()
    return sample


class Noting:
    """A model that paints its windows in grey 100, 101, …, and notes what it was given."""

    def __init__(self) -> None:
        self.given: list[Sample] = []

    def __call__(self, sample: Sample) -> Tensor:
        self.given.append(sample)
        return torch.full_like(sample["video"], 99 + len(self.given))

    def known(self, window: int) -> list[int]:
        """Places of the window's frames that were known."""
        return [place for place, mask in enumerate(self.given[window]["mask"]) if not mask.any()]


class TestWindows:
    @pytest.mark.parametrize("frames", [1, 2, 5, 8, 9])
    def test_few_frames_are_one_window_padded_to_4n_plus_1_by_the_last(self, frames: int) -> None:
        (only,) = windows(range(frames), length=9, overlap=5)
        assert len(only) % 4 == 1
        assert only == (*range(frames), *[frames - 1] * (len(only) - frames))
        assert len(only) - frames < 4

    def test_by_hand(self) -> None:
        assert windows(range(13), length=9, overlap=5) == [tuple(range(9)), tuple(range(4, 13))]
        assert windows(range(10), length=9, overlap=1) == [tuple(range(9)), (4, 5, 6, 7, 8, 9, 9, 9, 9)]
        assert windows(range(17), length=9, overlap=1) == [tuple(range(9)), tuple(range(8, 17))]

    @pytest.mark.parametrize("frames", [82, 100, 161, 162, 500])
    def test_all_are_whole_and_begin_where_latent_frames_of_the_one_before_do(self, frames: int) -> None:
        cut = windows(range(frames), length=81, overlap=9)
        assert all(len(window) == 81 for window in cut)
        assert sorted({number for window in cut for number in window}) == list(range(frames))
        for before, after in pairwise(cut):
            shared = len(set(before) & set(after))
            assert after[0] % 4 == 0
            assert shared >= 9

    def test_of_frames_that_are_not_consecutive(self) -> None:
        chosen = [0, 7, 11, 30, 31, 60]
        assert windows(chosen, length=5, overlap=1) == [(0, 7, 11, 30, 31), (31, 60, 60, 60, 60)]


class TestSelect:
    def test_frames_and_actions_are_renumbered(self) -> None:
        sample = sample_of(7)
        chosen = select(sample, [0, 3, 4, 6, 6])
        assert chosen["video"][:, 0, 0, 0].tolist() == [0, 3, 4, 6, 6]
        assert chosen["labels"].tolist() == [False, True, True, False, False]
        (action,) = chosen["actions"]
        assert (action.start_frame, action.end_frame) == (1, 2)
        assert chosen["garment"] is sample["garment"]
        assert len(sample["video"]) == 7

    def test_an_action_of_which_no_frame_is_left_is_left_out(self) -> None:
        assert select(sample_of(7), [0, 1, 5])["actions"] == []

    def test_a_padded_last_frame_goes_on_with_its_action(self) -> None:
        sample = sample_of(4)
        sample["actions"] = [ActionCaption(category="x", caption="x", start_frame=3, end_frame=3)]
        (action,) = select(sample, [0, 1, 2, 3, 3])["actions"]
        assert (action.start_frame, action.end_frame) == (3, 4)


def test_known_frames_are_generated_in_the_mask_and_real_outside_and_have_no_mask() -> None:
    sample = sample_of(2)
    told = with_known(sample, [None, torch.full((3, 32, 16), 77, dtype=torch.uint8)])
    inside = sample["mask"][1].expand(3, -1, -1)
    assert told["video"][1][inside].unique().tolist() == [77]
    assert told["video"][1][~inside].unique().tolist() == [1]
    assert not told["mask"][1].any()
    assert torch.equal(told["mask"][0], sample["mask"][0])
    assert sample["mask"][1].any(), "the sample itself is left as it is"


class TestLong:
    @pytest.mark.parametrize("mode", ["keyframes", "windows"])
    @pytest.mark.parametrize("frames", [1, 6, 9])
    def test_what_fits_into_a_window_is_made_at_once(self, mode: str, frames: int) -> None:
        model = Noting()
        made = generate_long(sample_of(frames), model, settings=LongVideoSettings(mode=mode, **SHORT))
        assert made.shape == (frames, 3, 32, 16)
        assert len(model.given) == 1
        assert model.known(0) == []

    @pytest.mark.parametrize("mode", ["keyframes", "windows"])
    @pytest.mark.parametrize("frames", [10, 13, 24])
    def test_as_many_frames_as_the_clip(self, mode: str, frames: int) -> None:
        made = generate_long(sample_of(frames), Noting(), settings=LongVideoSettings(mode=mode, **SHORT))
        assert len(made) == frames
        assert (made >= 100).all()

    def test_windows_continue_the_one_before(self) -> None:
        model = Noting()
        made = generate_long(sample_of(17), model, settings=LongVideoSettings(mode="windows", **SHORT))
        assert [model.known(window) for window in range(3)] == [[], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
        inside = model.given[0]["mask"][0]
        assert model.given[2]["video"][0, :1][inside].unique().tolist() == [100], "frame 8, as window 0 made it"
        assert model.given[2]["video"][1, :1][inside].unique().tolist() == [101], "frame 9, as window 1 made it"
        assert made[:, 0, 0, 0].tolist() == [100] * 9 + [101] * 4 + [102] * 4

    def test_keyframes_are_made_first_and_then_known(self) -> None:
        model = Noting()
        made = generate_long(sample_of(17), model, settings=LongVideoSettings(mode="keyframes", **SHORT))
        # Nobody moves: keyframes each 6 frames, 0 6 12, and the last, 16; padded to 5.
        assert model.given[0]["video"][:, 0, 0, 0].tolist() == [0, 6, 12, 16, 16]
        assert model.known(1) == [0, 6], "frames 0 and 6"
        assert model.known(2) == [0, 1, 2, 3, 4, 8], "frames 4 to 8 of the window before, and keyframe 12"
        assert model.known(3) == [0, 1, 2, 3, 4, 8], "frames 8 to 12 of the window before, and keyframe 16"
        inside = model.given[0]["mask"][0]
        assert model.given[3]["video"][4, :1][inside].unique().tolist() == [102], "frame 12 as window 2 made it"
        assert model.given[3]["video"][8, :1][inside].unique().tolist() == [100], "frame 16 as a keyframe"
        assert made[:, 0, 0, 0].tolist() == [101] * 9 + [102] * 4 + [103] * 4

    def test_more_keyframes_than_a_window_are_made_in_groups(self) -> None:
        model = Noting()
        settings = LongVideoSettings(mode="keyframes", window=5, overlap=1, max_stride=2, pose_distance=1)
        generate_long(sample_of(17), model, settings=settings)
        assert model.given[0]["video"][:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
        assert model.given[1]["video"][1:, 0, 0, 0].tolist() == [10, 12, 14, 16]
        assert model.known(1) == [0]


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"window": 80}, "80 is not 4n \\+ 1; nearest: 77, 81"),
            ({"window": 1}, "greater than or equal to 5"),
            ({"overlap": 0}, "greater than or equal to 1"),
            ({"window": 9, "overlap": 9}, "an overlap of 9 frames leaves nothing of a window of 9"),
            ({"max_stride": 0}, "greater than or equal to 1"),
            ({"pose_distance": 1.5}, "less than or equal to 1"),
            ({"mode": "both"}, "keyframes"),
        ],
    )
    def test_what_cannot_be(self, values: dict, said: str) -> None:
        with pytest.raises(ValidationError, match=said):
            LongVideoSettings(**values)

    def test_a_size_that_no_network_takes(self) -> None:
        with pytest.raises(ValidationError, match="720×540 px are not multiples of 16"):
            GenerationSettings(buckets=[(768, 576), (720, 540)])
