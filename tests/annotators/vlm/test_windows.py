"""Which frames are shown to the model, and together with which others."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from annotators.vlm.backend import Picture
from annotators.vlm.windows import Plan, Sampling, labelling_frames, plan, scaled, spread, window_runs
from media.reader import open_reader
from tests.annotators.vlm.pictures import RATES, noise, times_of
from tests.clips import shared


def asked(made: Plan) -> list[int]:
    """Frames of the clip that are shown."""
    shown, first = np.unique(made.picture, return_index=True)
    assert shown.tolist() == list(range(len(made.pictures)))
    return made.frames[first].tolist()


@pytest.mark.parametrize("times", [[], [0.0, 0.0], [1.0, 0.5], [np.nan], [0.0, np.inf], [[0.0, 1.0]]])
def test_times_that_are_none_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="times have to"):
        labelling_frames(times, rate=8)


def test_images_and_times_have_to_match() -> None:
    with pytest.raises(ValueError, match="3 images but 2 times"):
        plan(noise(3), [0.0, 0.1], Sampling())


def test_windows_with_gaps_between_are_refused() -> None:
    with pytest.raises(ValidationError, match="would go unseen"):
        Sampling(window=8, stride=9)


@pytest.mark.parametrize("name", RATES)
def test_at_the_frame_rate_every_frame_is_labelled(name: str) -> None:
    for rate in (float(RATES[name]), float(name), 60.0):
        assert labelling_frames(times_of(500, RATES[name]), rate=rate).tolist() == list(range(500))


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("rate", [2.0, 5.0, 8.0, 12.5])
def test_labels_are_where_time_wants_them(name: str, rate: float) -> None:
    times = times_of(331, RATES[name])
    frames = labelling_frames(times, rate=rate)
    period = 1 / float(RATES[name])
    wanted = np.arange(int(times[-1] * rate) + 1) / rate
    assert np.abs(times[frames[: len(wanted)]] - wanted).max() <= period / 2 + 1e-9
    assert frames[0] == 0
    assert frames[-1] == 330
    assert np.diff(times[frames]).max() <= np.ceil(1 / rate / period - 1e-6) * period + 1e-9


def test_a_rate_that_varies_is_followed_by_time() -> None:
    times = np.cumsum([0.0, *[0.02] * 50, *[0.1] * 10, *[0.02] * 50])  # 1 s fast, 1 s slow, 1 s fast
    frames = labelling_frames(times, rate=10)
    assert np.allclose(times[frames], np.arange(31) / 10)


def test_a_clip_of_one_frame_is_one_window() -> None:
    made = plan(noise(1), [0.0], Sampling())
    assert made.frames.tolist() == [0]
    assert [list(window.shown) for window in made.windows] == [[0]]


@pytest.mark.parametrize("count", [1, 5, 15, 16, 17, 24, 25, 40, 163])
@pytest.mark.parametrize(("size", "stride"), [(16, 8), (16, 16), (16, 1), (5, 3)])
def test_windows_cover_everything_and_end_at_the_end(count: int, size: int, stride: int) -> None:
    runs = window_runs(count, size=size, stride=stride)
    assert {index for run in runs for index in run} == set(range(count))
    assert runs[0][0] == 0
    assert runs[-1][-1] == count - 1
    assert {len(run) for run in runs} == {min(size, count)}
    assert len({run.start for run in runs}) == len(runs)
    assert all(0 < after.start - run.start <= stride for run, after in pairwise(runs))


def test_still_parts_are_asked_about_once_in_a_while() -> None:
    images = noise(80)
    images[20:60] = images[20]  # 5 s of nothing at 8 fps
    made = plan(images, times_of(80, 8), Sampling(rate=8, longest_still=1.0))
    assert asked(made) == [*range(20), 20, 29, 38, 47, 56, *range(60, 80)]
    assert made.picture[20:29].tolist() == [20] * 9  # the label of the frame that they repeat
    assert len(made.picture) == 80


def test_nothing_is_left_out_where_that_is_not_wanted() -> None:
    images = np.zeros((20, 32, 32, 3), np.uint8)
    assert asked(plan(images, times_of(20, 8), Sampling(longest_still=0))) == list(range(20))


def test_a_fading_picture_is_no_still_one() -> None:
    images = np.repeat(np.arange(100, 150, dtype=np.uint8), 64 * 64 * 3).reshape(50, 64, 64, 3)  # one level a frame
    made = plan(images, times_of(50, 8), Sampling(still=2.0, longest_still=60))
    assert asked(made) == list(range(0, 50, 3))


def test_a_hand_that_moves_alone_is_no_still_picture() -> None:
    images = np.full((16, 480, 360, 3), 90, np.uint8)
    for index in range(16):
        images[index, 240:260, 100 + 10 * index : 120 + 10 * index] = 200  # 0.2 % of the picture
    mean = np.abs(np.diff(images.astype(float), axis=0)).mean()
    assert mean < 1
    assert asked(plan(images, times_of(16, 8), Sampling())) == list(range(16))


@pytest.mark.parametrize("name", ["upper1", "lower1"])
def test_people_who_move_are_asked_about_at_every_label(name: str) -> None:
    images = np.stack(list(open_reader(str(shared(f"clips/vivid/videos/{name}.mp4")))))
    made = plan(images, times_of(len(images), 24), Sampling(rate=24))
    assert asked(made) == list(range(len(images)))
    frozen = np.concatenate([images, np.repeat(images[-1:], 24, axis=0)])
    assert len(plan(frozen, times_of(len(frozen), 24), Sampling(rate=24)).pictures) == len(images)


def test_windows_of_the_same_pictures_are_asked_about_once() -> None:
    loop = np.tile(noise(4), (5, 1, 1, 1))
    made = plan(loop, times_of(20, 8), Sampling(window=4, stride=4, still=0, longest_still=0))
    (window,) = made.windows
    assert [list(run) for run in window.runs] == [list(range(start, start + 4)) for start in range(0, 20, 4)]
    loop[13, 0, 0, 0] ^= 1  # one value of one pixel
    runs = [
        [run.start for run in window.runs]
        for window in plan(loop, times_of(20, 8), Sampling(window=4, stride=4)).windows
    ]
    assert runs == [[0, 4, 8, 16], [12]]


def test_pictures_of_the_same_bytes_in_another_shape_are_others() -> None:
    image = noise(1, size=(20, 30))[0]
    assert Picture(image, 0.0).digest == Picture(image.copy(), 1.0).digest
    assert Picture(image, 0.0).digest != Picture(image.reshape(30, 20, 3), 0.0).digest
    assert Picture(image[:, ::-1], 0.0).digest == Picture(image[:, ::-1].copy(), 0.0).digest


def test_pictures_are_made_smaller_never_larger() -> None:
    checks = (np.indices((40, 60)).sum(0) % 2 * 200).astype(np.uint8)[..., None].repeat(3, axis=2)
    small = scaled(checks, max_side=30)
    assert small.shape == (20, 30, 3)
    assert (small == 100).all()  # the mean of what a pixel covers, not one of it
    assert scaled(checks, max_side=60) is checks
    assert scaled(np.zeros((3, 900, 3), np.uint8), max_side=100).shape == (1, 100, 3)


def test_a_plan_is_the_same_each_time_and_holds_real_times() -> None:
    images, times = noise(50, size=(600, 400)), times_of(50, RATES["29.97"])
    one, other = (plan(images, times, Sampling(rate=10, max_side=200)) for _ in range(2))
    assert [picture.digest for picture in one.pictures] == [picture.digest for picture in other.pictures]
    assert {picture.image.shape for picture in one.pictures} == {(200, 133, 3)}
    assert [picture.seconds for picture in one.pictures] == times[one.frames].tolist()


@pytest.mark.parametrize(
    ("first", "last", "count", "frames"),
    [(0, 9, 1, [5]), (0, 9, 2, [2, 7]), (10, 12, 8, [10, 11, 12]), (7, 7, 3, [7]), (0, 99, 4, [12, 37, 62, 87])],
)
def test_frames_spread_evenly(first: int, last: int, count: int, frames: list[int]) -> None:
    assert spread(first, last, count=count) == frames
