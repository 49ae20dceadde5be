"""Body pose of the presenter through a clip, in the COCO-WholeBody layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.mediapipe_tasks import BODY_LANDMARKS, Body, BodyModel
from preprocess.person import Boxes, Sighting, body_box, distinct, overlap, presenter
from schemas.conditions import HAND_POINTS, POSE_POINTS, Hands, PersonTrack, Pose

_BODY = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
_FEET = {17: 31, 19: 29, 20: 32, 22: 30}  # big toes and heels; MediaPipe has no small toe
_FACE = {53: 0, 59: 6, 62: 4, 65: 1, 68: 3, 71: 10, 77: 9}  # nose tip, eye corners, mouth corners
_LEFT_HAND, _RIGHT_HAND = 91, 112
_KNUCKLES = {
    0: 15,
    2: 21,
    5: 19,
    17: 17,
}  # hand joint → MediaPipe's landmark of the left side; the right is one more

WHOLE_BODY_FROM_MEDIAPIPE: dict[int, int] = {
    **dict(enumerate(_BODY)),
    **_FEET,
    **_FACE,
    **{_LEFT_HAND + joint: landmark for joint, landmark in _KNUCKLES.items()},
    **{_RIGHT_HAND + joint: landmark + 1 for joint, landmark in _KNUCKLES.items()},
}
"""COCO-WholeBody index → index of the MediaPipe landmark at the same place of the body."""


@dataclass(frozen=True, eq=False)
class BodyTrack:
    """One person's landmarks through a clip of T frames.

    Attributes:
        present: (T,) bool.
        points: (T, 33, 2) float64, px of the clip; zeros where absent.
        visibility: (T, 33) float64 in 0..1.
        world: (T, 33, 3) float64, metres, axes as in `Body`.
    """

    present: NDArray[np.bool_]
    points: NDArray[np.float64]
    visibility: NDArray[np.float64]
    world: NDArray[np.float64]

    def at(self, frame: int) -> Body:
        """The body in one frame."""
        return Body(points=self.points[frame], visibility=self.visibility[frame], world=self.world[frame])


def look_for_people(images: NDArray[np.uint8], *, every: int, most: int) -> list[Sighting]:
    """People in every `every`-th of (T, H, W, 3) images, and in the last one."""
    height, width = images.shape[1:3]
    model = BodyModel(most=most)
    try:
        return [
            Sighting(
                frame,
                distinct(
                    np.reshape([body_box(body, width, height) for body in model(images[frame])], (-1, 4))
                ),
            )
            for frame in sorted({*range(0, len(images), every), len(images) - 1})
        ]
    finally:
        model.close()


def follow_body(
    images: NDArray[np.uint8], sightings: Sequence[Sighting], *, margin: float = 0.25
) -> BodyTrack:
    """The presenter's landmarks in every frame, with no lag.

    The model follows the body through the clip forwards and, anew, backwards; the mean of both takes away the lag
    that its own smoothing has in either direction, and one direction often sees what the other has not found yet
    (a person who enters headless). `margin` widens the part of the picture looked at, in shares of its size.
    """
    frames, height, width = images.shape[:3]
    expected = presenter(sightings, frames=frames, width=width, height=height)
    region = _region(expected, width, height, margin)
    most = max((_inside(sighting.boxes, region) for sighting in sightings), default=1)
    forwards = _follow(images, range(frames), region, expected, max(1, most))
    backwards = _follow(images, range(frames - 1, -1, -1), region, expected, max(1, most))
    return _mean(forwards, backwards)


def whole_body(track: BodyTrack, hands: Hands | None = None) -> Pose:
    """COCO-WholeBody from MediaPipe's landmarks and, where given and seen, the hand model's joints.

    Points that MediaPipe does not have (most of the face, small toes, fingers of unseen hands) get score 0.
    """
    frames = len(track.present)
    keypoints = np.zeros((frames, POSE_POINTS, 2), np.float32)
    scores = np.zeros((frames, POSE_POINTS), np.float16)
    ours, theirs = list(WHOLE_BODY_FROM_MEDIAPIPE), list(WHOLE_BODY_FROM_MEDIAPIPE.values())
    keypoints[:, ours] = track.points[:, theirs]
    scores[:, ours] = track.visibility[:, theirs]
    if hands is not None:
        for side, start in enumerate((_LEFT_HAND, _RIGHT_HAND)):
            seen = hands.present[:, side]
            keypoints[seen, start : start + HAND_POINTS] = hands.joints_2d[seen, side]
            scores[seen, start : start + HAND_POINTS] = hands.scores[seen, side, None]
    return Pose(keypoints=keypoints, scores=scores)


def person_track(track: BodyTrack, sightings: Sequence[Sighting], *, width: int, height: int) -> PersonTrack:
    """Boxes around the followed body; people are counted at the nearest sighting."""
    frames = len(track.present)
    boxes = np.zeros((frames, 4), np.float32)
    for frame in np.flatnonzero(track.present):
        boxes[frame] = body_box(track.at(frame), width, height)
    seen = track.present & ((boxes[:, 2:] - boxes[:, :2]).min(1) > 0)
    boxes[~seen] = 0
    times = np.array([sighting.frame for sighting in sightings])
    nearest = np.abs(np.arange(frames)[:, None] - times).argmin(1)
    counts = np.array([len(sighting.boxes) for sighting in sightings])[nearest]
    return PersonTrack(
        boxes=boxes,
        scores=np.where(seen, track.visibility[:, 11:29].max(1), 0).astype(np.float32),
        counts=np.where(seen, np.maximum(counts, 1), counts).astype(np.uint8),
    )


def _region(boxes: Boxes | None, width: int, height: int, margin: float) -> tuple[slice, slice]:
    """Rows and columns that hold the presenter in every frame; the whole picture if nobody was seen."""
    if boxes is None:
        return slice(0, height), slice(0, width)
    x0, y0, x1, y1 = *boxes[:, :2].min(0), *boxes[:, 2:].max(0)
    spare = margin * max(x1 - x0, y1 - y0)
    rows = slice(max(0, int(y0 - spare)), min(height, int(y1 + spare) + 1))
    return rows, slice(max(0, int(x0 - spare)), min(width, int(x1 + spare) + 1))


def _inside(boxes: Boxes, region: tuple[slice, slice]) -> int:
    rows, columns = region
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    within = (centres[:, 0] >= columns.start) & (centres[:, 0] < columns.stop)
    return int((within & (centres[:, 1] >= rows.start) & (centres[:, 1] < rows.stop)).sum())


def _follow(
    images: NDArray[np.uint8], order: range, region: tuple[slice, slice], expected: Boxes | None, most: int
) -> BodyTrack:
    rows, columns = region
    height, width = images.shape[1:3]
    track = _empty(len(images))
    model = BodyModel(most=most, video=True)
    try:
        for frame in order:
            bodies = [
                Body(
                    points=body.points + (columns.start, rows.start),
                    visibility=body.visibility,
                    world=body.world,
                )
                for body in model(images[frame][region])
            ]
            if bodies:
                body = _nearest(bodies, None if expected is None else expected[frame], width, height)
                track.present[frame], track.points[frame] = True, body.points
                track.visibility[frame], track.world[frame] = body.visibility, body.world
    finally:
        model.close()
    return track


def _nearest(bodies: Sequence[Body], box: Boxes | None, width: int, height: int) -> Body:
    if box is None or len(bodies) == 1:
        return bodies[0]
    boxes = np.stack([body_box(body, width, height) for body in bodies])
    return bodies[int(overlap(boxes, box).argmax())]


def _empty(frames: int) -> BodyTrack:
    return BodyTrack(
        present=np.zeros(frames, bool),
        points=np.zeros((frames, BODY_LANDMARKS, 2)),
        visibility=np.zeros((frames, BODY_LANDMARKS)),
        world=np.zeros((frames, BODY_LANDMARKS, 3)),
    )


def _mean(one: BodyTrack, other: BodyTrack) -> BodyTrack:
    """Mean of two tracks where both have the body, and either one where only it has."""
    weights = np.stack([one.present, other.present]).astype(float)
    weights /= np.maximum(weights.sum(0), 1)

    def mixed(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        shape = (2, -1) + (1,) * (a.ndim - 1)
        return (weights.reshape(shape) * np.stack([a, b])).sum(0)

    return BodyTrack(
        present=one.present | other.present,
        points=mixed(one.points, other.points),
        visibility=mixed(one.visibility, other.visibility),
        world=mixed(one.world, other.world),
    )
