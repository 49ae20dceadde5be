"""Whom the stage follows, on drawn clips in which a bright green disc is a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.dwpose.stage import DWPose
from schemas.artifacts import ARTIFACTS, check
from schemas.clip import Clip
from tests.curation.degrade import from_pictures
from tests.preprocess.dwpose.networks import BOX, detector_file, estimator_file

HEIGHT, WIDTH = 320, 480
FPS = 24
RADIUS = 14
PERSON = np.array(BOX) * WIDTH / 640
"""Width and height of a detection in these clips."""
Places = Sequence[tuple[float, float]]


@pytest.fixture
def stage(tmp_path: Path) -> DWPose:
    made = DWPose(
        detector=str(detector_file(tmp_path / "det.onnx")), estimator=str(estimator_file(tmp_path / "pose.onnx"))
    )
    made.setup()
    return made


@pytest.fixture
def clip_of(tmp_path: Path) -> Callable[[Sequence[Places]], Clip]:
    def make(people: Sequence[Places]) -> Clip:
        """A clip of the frames in `people`, a disc at each of their places."""
        pictures = np.full((len(people), HEIGHT, WIDTH, 3), 70, np.uint8)
        for picture, places in zip(pictures, people, strict=True):
            for x, y in places:
                cv2.circle(picture, (round(x), round(y)), RADIUS, (0, 255, 0), -1)
        return from_pictures(pictures, tmp_path / f"{len(list(tmp_path.iterdir()))}.mp4", fps=FPS, crf=8)

    return make


class Counted:
    """A network that counts its pictures."""

    def __init__(self, network: Callable[..., Iterator]) -> None:
        self.network, self.pictures = network, 0

    def __call__(self, images: Sequence[np.ndarray], *boxes: object) -> Iterator:
        self.pictures += len(images)
        return self.network(images, *boxes)


def counted(stage: DWPose) -> tuple[Counted, Counted]:
    stage._detector, stage._estimator = Counted(stage._detector), Counted(stage._estimator)
    return stage._detector, stage._estimator


def run(stage: DWPose, *clips: Clip) -> None:
    stage.process_batch(clips) if len(clips) > 1 else stage.process(clips[0])
    for clip in clips:
        for name in stage.gives:
            check(name, clip.artifacts[name], clip)


def test_walker_is_followed_in_every_frame_from_a_few_looks(stage, clip_of) -> None:
    detector, estimator = counted(stage)
    walk = [(100 + 6 * frame, 160 + frame) for frame in range(40)]
    clip = clip_of([[place] for place in walk])
    run(stage, clip)
    pose, person = clip.artifacts["pose"], clip.artifacts["person"]
    assert (np.abs(pose.keypoints - np.array(walk)[:, None]) <= 3).all()
    assert (pose.scores > 0.2).all()
    assert person.counts.tolist() == [1] * 40
    assert ((person.boxes[:, :2] < walk) & (person.boxes[:, 2:] > walk)).all()
    assert detector.pictures == 8  # every 6th of 40, and the last
    assert estimator.pictures == 40


def test_nobody_makes_no_person_out_of_nothing(stage, clip_of) -> None:
    detector, estimator = counted(stage)
    clip = clip_of([[]] * 13)
    run(stage, clip)
    pose, person = clip.artifacts["pose"], clip.artifacts["person"]
    assert not pose.scores.any()
    assert not pose.keypoints.any()
    assert not person.boxes.any()
    assert not person.counts.any()
    assert (detector.pictures, estimator.pictures) == (3, 0)


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_clips(stage, clip_of, count: int) -> None:
    clip = clip_of([[(240, 160)]] * count)
    run(stage, clip)
    assert (np.abs(clip.artifacts["pose"].keypoints - (240, 160)) <= 3).all()


def test_coming_and_going_is_right_to_the_frame(stage, clip_of) -> None:
    there = [8 <= frame < 27 for frame in range(40)]
    clip = clip_of([[(240, 160)] if seen else [] for seen in there])
    run(stage, clip)
    assert clip.artifacts["pose"].scores.all(1).tolist() == there
    assert (clip.artifacts["person"].scores > 0).tolist() == there
    assert clip.artifacts["person"].boxes.any(1).tolist() == there


def test_leap_between_two_looks_is_noticed_and_looked_at(stage, clip_of) -> None:
    places = [(200.0, 160.0)] * 13
    places[3] = places[4] = (200 + 0.75 * PERSON[0], 160.0)
    detector, _ = counted(stage)
    clip = clip_of([[place] for place in places])
    run(stage, clip)
    assert (np.abs(clip.artifacts["pose"].keypoints - np.array(places)[:, None]) <= 3).all()
    assert detector.pictures == 3 + 2

    blind = stage.model_copy(update={"trust": 0.0})
    run(blind, clip)
    assert np.abs(clip.artifacts["pose"].keypoints[3] - places[3]).max() > 50


def test_presenter_is_kept_apart_from_a_passer_by_who_is_counted(stage, clip_of) -> None:
    people = [[(250, 160), (40 + 2 * frame, 60)] if frame < 20 else [(250, 160)] for frame in range(31)]
    clip = clip_of(people)
    run(stage, clip)
    assert (np.abs(clip.artifacts["person"].boxes[:, [0, 2]].mean(1) - 250) < PERSON[0] / 4).all()
    counts = clip.artifacts["person"].counts
    assert counts[0] == 2
    assert counts[-1] == 1


def test_box_reaches_beyond_the_picture_but_is_stored_within(stage, clip_of) -> None:
    clip = clip_of([[(16, 300)]] * 3)
    run(stage, clip)
    boxes = clip.artifacts["person"].boxes
    assert (boxes[:, 0] == 0).all()
    assert (boxes[:, 3] == HEIGHT).all()
    assert (np.abs(clip.artifacts["pose"].keypoints - (16, 300)) <= 4).all()


def test_several_clips_at_once_come_out_as_they_do_alone(stage, clip_of) -> None:
    def clips() -> list[Clip]:
        walks = ([(100 + 5 * frame, 150)] for frame in range(20)), ([] for _ in range(5)), ([(300, 200)] for _ in [0])
        made = [clip_of(list(walk)) for walk in walks]
        for number, clip in enumerate(made):
            clip.key = f"clip-{number:08d}"
        return made

    alone, together = clips(), clips()
    for clip in alone:
        run(stage, clip)
    run(stage, *together)
    for one, other in zip(alone, together, strict=True):
        for name in stage.gives:
            encode = ARTIFACTS[name].encode
            assert encode(one.artifacts[name]) == encode(other.artifacts[name])


def test_scores_beyond_one_are_cut(tmp_path: Path, clip_of) -> None:
    stage = DWPose(
        detector=str(detector_file(tmp_path / "det.onnx")),
        estimator=str(estimator_file(tmp_path / "loud.onnx", gain=50.0)),
    )
    stage.setup()
    clip = clip_of([[(240, 160)]] * 2)
    run(stage, clip)
    assert clip.artifacts["pose"].scores.dtype == np.float16
    assert (clip.artifacts["pose"].scores == 1).all()
