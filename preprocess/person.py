"""Who presents the clothes: people found here and there in a clip, linked in time, one of them chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocess.mediapipe_tasks import Body

Boxes = NDArray[np.float64]

SHOULDERS, HIPS = (11, 12), (23, 24)
"""MediaPipe's landmarks, left first."""
HEAD = tuple(range(11))
CLEARLY_SEEN = 0.3


@dataclass(frozen=True, eq=False)
class Sighting:
    """What one look for people found.

    Attributes:
        frame: index of the frame looked at.
        boxes: (P, 4) float64, x0 y0 x1 y1 in px, around each person.
        mistakes: (M, 4) float64, around what only looked like a person.

    """

    frame: int
    boxes: Boxes
    mistakes: Boxes


def as_boxes(boxes: Sequence[Boxes]) -> Boxes:
    """(N, 4) array of N boxes, also where there are none."""
    return np.reshape(np.asarray(boxes, float), (-1, 4))


def nearest_looks(sightings: Sequence[Sighting], frames: int) -> list[Sighting]:
    """For each of `frames` frames, the look for people nearest in time."""
    times = np.array([sighting.frame for sighting in sightings])
    return [sightings[int(np.abs(times - frame).argmin())] for frame in range(frames)]


def body_box(body: Body, width: int, height: int) -> Boxes:
    """(4,) box of the visible body, in an image of `width` × `height` px.

    Landmarks mark joints, not outlines: the box is widened by a fifth of the torso's length, and by a whole head
    above the face.
    """
    seen = body.points[body.visibility > CLEARLY_SEEN]
    if len(seen) < 2:
        seen = body.points
    flesh = 0.2 * torso_length(body.points)
    face = body.points[list(HEAD)]
    top = min(seen[:, 1].min(), face[:, 1].mean() - 2 * flesh)
    box = np.array([seen[:, 0].min() - flesh, top - flesh / 2, seen[:, 0].max() + flesh, seen[:, 1].max() + flesh / 2])
    return np.clip(box, 0, (width, height, width, height))


def torso_length(points: NDArray[np.float64]) -> float:
    """Distance in px from between the shoulders to between the hips, of (33, 2) points."""
    return float(np.linalg.norm(points[list(SHOULDERS)].mean(0) - points[list(HIPS)].mean(0)))


def overlap(boxes: Boxes, box: Boxes) -> NDArray[np.float64]:
    """(N,) intersection over union of (N, 4) `boxes` with one `box`."""
    corner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = np.clip(corner, 0, None).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    return shared / np.maximum(union, 1e-9)


def distinct(bodies: Sequence[Body]) -> list[Body]:
    """The best seen of those that show the same person: torsos less than half a torso's length apart."""
    kept: list[Body] = []
    for body in sorted(bodies, key=lambda body: -float(body.visibility.mean())):
        apart = [
            np.linalg.norm(_torso_centre(body) - _torso_centre(other))
            / max(torso_length(body.points), torso_length(other.points), 1.0)
            for other in kept
        ]
        if not apart or min(apart) > 0.5:
            kept.append(body)
    return kept


def squares(width: int, height: int) -> list[slice]:
    """Columns of overlapping squares that cover a wide picture; none of one that is not wide.

    The body model squeezes a picture into a square and then misses small people in wide ones. A picture that is
    high is left whole, since a standing person may fill it.
    """
    if width <= 1.25 * height:
        return []
    count = 1 + int(np.ceil(2 * (width / height - 1)))  # each overlaps the next by half or more
    starts = np.linspace(0, width - height, count).round().astype(int).tolist()
    return [slice(start, start + height) for start in starts]


def _torso_centre(body: Body) -> Boxes:
    return body.points[[*SHOULDERS, *HIPS]].mean(0)


def presenter(sightings: Sequence[Sighting], *, frames: int, width: int, height: int) -> Boxes | None:
    """(T, 4) boxes of the presenter, interpolated between sightings; None if nobody was seen.

    Sightings are linked greedily by overlap (of centres' distance where a fast mover leaves no overlap). The
    presenter is the track with the most area near the picture's middle, summed over time.
    """
    tracks = _link(sightings)
    if not tracks:
        return None
    best = max(tracks, key=lambda track: sum(_prominence(box, width, height) for _, box in track))
    times = np.array([frame for frame, _ in best], float)
    boxes = np.stack([box for _, box in best])
    return np.stack([np.interp(np.arange(frames), times, boxes[:, side]) for side in range(4)], axis=1)


Track = list[tuple[int, Boxes]]


def _link(sightings: Sequence[Sighting], least_overlap: float = 0.1) -> list[Track]:
    tracks: list[Track] = []
    for sighting in sightings:
        free = list(sighting.boxes)
        for track in sorted(tracks, key=len, reverse=True):
            if not free:
                break
            shared = overlap(np.stack(free), track[-1][1])
            nearest = int(shared.argmax())
            if shared[nearest] >= least_overlap:
                track.append((sighting.frame, free.pop(nearest)))
        tracks.extend([(sighting.frame, box)] for box in free)
    return tracks


def _prominence(box: Boxes, width: int, height: int) -> float:
    centre = (box[:2] + box[2:]) / 2 / (width, height)
    off_centre = float(np.linalg.norm(centre - 0.5)) / np.hypot(0.5, 0.5)
    return float((box[2:] - box[:2]).prod()) / (width * height) * (1 - 0.5 * off_centre)
