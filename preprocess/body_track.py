"""Follows the presenter's body landmarks through a clip, without lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.mediapipe_tasks import BODY_LANDMARKS, Body, BodyModel, Hand, HandModel
from preprocess.person import (
    HEAD,
    HIPS,
    SHOULDERS,
    Boxes,
    Sighting,
    as_boxes,
    body_box,
    distinct,
    nearest_looks,
    overlap,
    presenter,
    squares,
    torso_length,
)

TORSO = (*SHOULDERS, *HIPS)
SHORTEST_TORSO = 0.3
"""Metres; the model gives crumpled bodies where it sees none."""
AGREE = 0.25
"""Two looks at one body agree if their torsos lie less than this share of the torso's length apart."""
SURE = 0.75
"""Confidence asked of people found in a part of the picture, where lettering is large enough to mislead."""
SAME = 0.3
"""Least overlap of two boxes that show the same thing a moment apart."""
STEADY_SIZE = (0.6, 1.6)
"""A followed body's size in px per metre, as a multiple of its median through the clip."""


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

    @classmethod
    def empty(cls, frames: int) -> BodyTrack:
        """Nobody, for `frames` frames."""
        return cls(
            present=np.zeros(frames, bool),
            points=np.zeros((frames, BODY_LANDMARKS, 2)),
            visibility=np.zeros((frames, BODY_LANDMARKS)),
            world=np.zeros((frames, BODY_LANDMARKS, 3)),
        )

    def at(self, frame: int) -> Body:
        """The body in one frame."""
        return Body(points=self.points[frame], visibility=self.visibility[frame], world=self.world[frame])

    def where(self, keep: NDArray[np.bool_]) -> BodyTrack:
        """The same track, absent wherever `keep` (T,) is false."""
        kept = self.present & keep
        return BodyTrack(
            present=kept,
            points=self.points * kept[:, None, None],
            visibility=self.visibility * kept[:, None],
            world=self.world * kept[:, None, None],
        )


def look_for_people(images: NDArray[np.uint8], *, every: int, most: int) -> list[Sighting]:
    """People in every `every`-th of (T, H, W, 3) uint8 RGB images, and in the last one.

    The body model takes a hand close to the camera for a body. So hands are looked for, too, and such a body is not
    believed; nor is one guessed outside the picture.
    """
    height, width = images.shape[1:3]
    parts = squares(width, height)
    with BodyModel(most=most) as whole, BodyModel(most=most, confidence=SURE) as close, HandModel(most=2) as hands:
        sightings = []
        for frame in sorted({*range(0, len(images), every), len(images) - 1}):
            image = images[frame]
            found = [*whole(image), *(body.shifted(part.start, 0) for part in parts for body in close(image[:, part]))]
            bodies = distinct([body for body in found if _in_frame(body, width, height)])[:most]
            near = hands(image) if bodies else []
            people: list[Boxes] = []
            mistakes: list[Boxes] = []
            for body in bodies:
                mistaken = any(_is_hand(body, hand) for hand in near)
                (mistakes if mistaken else people).append(body_box(body, width, height))
            sightings.append(Sighting(frame, as_boxes(people), as_boxes(mistakes)))
    return sightings


def follow_body(images: NDArray[np.uint8], sightings: Sequence[Sighting], *, margin: float = 0.25) -> BodyTrack:
    """The presenter's landmarks in every frame of (T, H, W, 3) uint8 RGB images; nobody, if none was sighted.

    The model follows the body through the clip forwards and, anew, backwards. Where both agree, their mean takes
    away the lag that the model's own smoothing has in either direction; where they do not (one of them follows
    something else before the detector has found the person), the one nearer to the sightings is believed.
    `margin` widens the part of the picture looked at, in shares of the person's size.
    """
    frames, height, width = images.shape[:3]
    expected = presenter(sightings, frames=frames, width=width, height=height)
    if expected is None:
        return BodyTrack.empty(frames)
    region = _region(expected, width, height, margin)
    most = max(1, *(_inside(sighting.boxes, region) for sighting in sightings))
    forwards = _follow(images, range(frames), region, expected, most)
    backwards = _follow(images, range(frames - 1, -1, -1), region, expected, most)
    track = _steady(_merge(forwards, backwards, expected))
    return track.where(~_mistaken(track, sightings, width, height))


def _is_hand(body: Body, hand: Hand) -> bool:
    """Whether a body was made out in a close hand: its hips lie on a hand that is nearly as large as its torso."""
    low, high = hand.joints.min(0), hand.joints.max(0)
    spare = 0.25 * (high - low)
    hips = body.points[list(HIPS)]
    within = ((hips >= low - spare) & (hips <= high + spare)).all()
    return bool(within) and float((high - low).max()) >= 0.8 * torso_length(body.points)


def _in_frame(body: Body, width: int, height: int) -> bool:
    """Whether the face, or the middle of the shoulders or of the hips, is in the picture."""
    middles = np.stack([body.points[list(group)].mean(0) for group in (HEAD, SHOULDERS, HIPS)])
    return bool(((middles >= 0) & (middles < (width, height))).all(1).any())


def _mistaken(track: BodyTrack, sightings: Sequence[Sighting], width: int, height: int) -> NDArray[np.bool_]:
    """(T,) whether what is followed is, at the nearest look for people, a hand taken for a body."""
    mistaken = np.zeros(len(track.present), bool)
    for frame, look in enumerate(nearest_looks(sightings, len(track.present))):
        if track.present[frame] and len(look.mistakes):
            box = body_box(track.at(frame), width, height)
            mistaken[frame] = overlap(look.mistakes, box).max() >= SAME
    return mistaken


def _region(boxes: Boxes, width: int, height: int, margin: float) -> tuple[slice, slice]:
    """Rows and columns that hold the presenter in every frame."""
    x0, y0 = (float(value) for value in boxes[:, :2].min(0))
    x1, y1 = (float(value) for value in boxes[:, 2:].max(0))
    spare = margin * max(x1 - x0, y1 - y0)
    rows = slice(max(0, int(y0 - spare)), min(height, int(y1 + spare) + 1))
    return rows, slice(max(0, int(x0 - spare)), min(width, int(x1 + spare) + 1))


def _inside(boxes: Boxes, region: tuple[slice, slice]) -> int:
    """How many of `boxes` have their centre in the region."""
    rows, columns = region
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).T
    return int(((x >= columns.start) & (x < columns.stop) & (y >= rows.start) & (y < rows.stop)).sum())


def _follow(
    images: NDArray[np.uint8], order: range, region: tuple[slice, slice], expected: Boxes, most: int
) -> BodyTrack:
    height, width = images.shape[1:3]
    track = BodyTrack.empty(len(images))
    with BodyModel(most=most, video=True) as model:
        for frame in order:
            bodies = [body.shifted(region[1].start, region[0].start) for body in model(images[frame][region])]
            if bodies:
                boxes = np.stack([body_box(body, width, height) for body in bodies])
                body = bodies[int(overlap(boxes, expected[frame]).argmax())]
                track.present[frame], track.points[frame] = True, body.points
                track.visibility[frame], track.world[frame] = body.visibility, body.world
    return track


def _merge(one: BodyTrack, other: BodyTrack, expected: Boxes) -> BodyTrack:
    torso = list(TORSO)
    apart = np.linalg.norm(one.points[:, torso] - other.points[:, torso], axis=2).mean(1)
    length = np.linalg.norm(one.points[:, SHOULDERS].mean(1) - one.points[:, HIPS].mean(1), axis=1)
    agree = one.present & other.present & (apart < AGREE * np.maximum(length, 1))
    fits_one, fits_other = _fit(one, expected), _fit(other, expected)
    share = np.where(agree, 0.5, (fits_one >= fits_other).astype(float))

    def mixed(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        of_a = share.reshape(-1, *(1,) * (a.ndim - 1))
        return of_a * a + (1 - of_a) * b

    return BodyTrack(
        present=one.present | other.present,
        points=mixed(one.points, other.points),
        visibility=mixed(one.visibility, other.visibility),
        world=mixed(one.world, other.world),
    )


def _fit(track: BodyTrack, expected: Boxes) -> NDArray[np.float64]:
    """(T,) overlap of the landmarks' box with the expected one; -1 where absent."""
    boxes = np.concatenate([track.points.min(1), track.points.max(1)], axis=1)
    return np.array(
        [
            overlap(box[None], want)[0] if there else -1.0
            for box, want, there in zip(boxes, expected, track.present, strict=True)
        ]
    )


def _steady(track: BodyTrack) -> BodyTrack:
    """Without frames where the body is crumpled, or of another size than in most of the clip."""
    if not track.present.any():
        return track
    flat = track.world[:, :, :2] - track.world[:, :, :2].mean(1, keepdims=True)
    size = (flat * track.points).sum((1, 2)) / np.maximum((flat**2).sum((1, 2)), 1e-9)  # weak perspective, px per metre
    usual = np.median(size[track.present])
    torso = np.linalg.norm(track.world[:, SHOULDERS].mean(1) - track.world[:, HIPS].mean(1), axis=1)
    return track.where((torso >= SHORTEST_TORSO) & (size >= STEADY_SIZE[0] * usual) & (size <= STEADY_SIZE[1] * usual))
