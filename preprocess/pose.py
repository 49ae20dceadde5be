"""COCO-WholeBody pose and person boxes from a followed body."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from preprocess.body_track import BodyTrack
from preprocess.person import Sighting, body_box, nearest_looks
from schemas.body import HAND_START
from schemas.conditions import HAND_POINTS, POSE_POINTS, Hands, PersonTrack, Pose

_BODY = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
_FEET = {17: 31, 19: 29, 20: 32, 22: 30}  # big toes and heels; MediaPipe has no small toe
_FACE = {53: 0, 59: 6, 62: 4, 65: 1, 68: 3, 71: 10, 77: 9}  # nose tip, eye corners, mouth corners
_KNUCKLES = {0: 15, 2: 21, 5: 19, 17: 17}  # hand joint → landmark of the left side; the right one is next to it

WHOLE_BODY_FROM_MEDIAPIPE: dict[int, int] = {
    **dict(enumerate(_BODY)),
    **_FEET,
    **_FACE,
    **{
        start + joint: landmark + side for side, start in enumerate(HAND_START) for joint, landmark in _KNUCKLES.items()
    },
}
"""COCO-WholeBody index → index of the MediaPipe landmark at the same place of the body."""


def whole_body(track: BodyTrack, hands: Hands | None = None) -> Pose:
    """COCO-WholeBody from MediaPipe's landmarks and, where given and seen, the hand model's joints.

    Points that MediaPipe does not have (most of the face, small toes, most of an unseen hand) get score 0.
    """
    frames = len(track.present)
    keypoints = np.zeros((frames, POSE_POINTS, 2), np.float32)
    scores = np.zeros((frames, POSE_POINTS), np.float16)
    ours, theirs = list(WHOLE_BODY_FROM_MEDIAPIPE), list(WHOLE_BODY_FROM_MEDIAPIPE.values())
    keypoints[:, ours] = track.points[:, theirs]
    scores[:, ours] = track.visibility[:, theirs]
    if hands is not None:
        for side, start in enumerate(HAND_START):
            seen = hands.present[:, side]
            keypoints[seen, start : start + HAND_POINTS] = hands.joints_2d[seen, side]
            scores[seen, start : start + HAND_POINTS] = hands.scores[seen, side, None]
    return Pose(keypoints=keypoints, scores=scores)


def person_track(track: BodyTrack, sightings: Sequence[Sighting], *, width: int, height: int) -> PersonTrack:
    """Boxes around the followed body; people are counted at the nearest sighting."""
    frames = len(track.present)
    boxes = np.zeros((frames, 4), np.float32)
    for frame in range(frames):
        if track.present[frame]:
            boxes[frame] = body_box(track.at(frame), width, height)
    seen = track.present & ((boxes[:, 2:] - boxes[:, :2]).min(1) > 0)
    boxes[~seen] = 0
    counts = np.array([len(look.boxes) for look in nearest_looks(sightings, frames)], int)
    return PersonTrack(
        boxes=boxes,
        scores=np.where(seen, track.visibility.mean(1), 0).astype(np.float32),
        counts=np.where(seen, np.maximum(counts, 1), counts).astype(np.uint8),
    )
