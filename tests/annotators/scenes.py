"""A drawn person: artifacts of a clip without a video, 100 px a metre, facing the camera."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from schemas.body import HAND_START, Joint
from schemas.clip import Clip, Source, Span
from schemas.conditions import Hands, Label, PersonTrack, Pose
from schemas.manifest import Pair

SIZE = (220, 200)
FPS = 25
STANDING = {
    Joint.NOSE: (100, 20),
    Joint.LEFT_EYE: (103, 17),
    Joint.RIGHT_EYE: (97, 17),
    Joint.LEFT_SHOULDER: (118, 40),
    Joint.RIGHT_SHOULDER: (82, 40),
    Joint.LEFT_HIP: (112, 90),
    Joint.RIGHT_HIP: (88, 90),
    Joint.LEFT_KNEE: (112, 132),
    Joint.RIGHT_KNEE: (88, 132),
    Joint.LEFT_ANKLE: (112, 172),
    Joint.RIGHT_ANKLE: (88, 172),
}
RESTING = {0: ((124, 69), (126, 94)), 1: ((76, 69), (74, 94))}
"""Elbow and wrist of arms that hang."""
AT_CHEST = ((138, 62), (116, 66))
"""Left elbow and wrist with the hand before the chest."""
_FINGERS = np.array([(0, 0)] + [(reach, spread) for spread in (-4, -2, 0, 2, 4) for reach in (5, 9, 12, 15)], float)


def hand_at(elbow: tuple[float, float], wrist: tuple[float, float]) -> np.ndarray:
    """(21, 2) a flat open hand that goes on where the forearm ends."""
    along = np.subtract(wrist, elbow).astype(float)
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    return np.array(wrist, float) + _FINGERS[:, :1] * along + _FINGERS[:, 1:] * across


def upper_garment() -> np.ndarray:
    """(H, W) uint8 labels: a shirt, trousers and a face."""
    labels = np.zeros(SIZE, np.uint8)
    labels[38:95, 76:125] = Label.UPPER_CLOTHES
    labels[95:170, 80:121] = Label.PANTS
    labels[5:36, 88:113] = Label.FACE
    return labels


def scene(
    arms: dict[int, list[tuple[tuple[float, float], tuple[float, float]]]] | None = None,
    *,
    frames: int = 30,
    part: str = "upper",
    lost: tuple[int, ...] = (),
    hand_scale: float = 1.0,
) -> Clip:
    """A clip in which `arms` gives a side's (elbow, wrist) frame by frame; other arms hang.

    Hands of the sides in `lost` are not seen; `hand_scale` enlarges the others in the picture.
    """
    keypoints, scores = np.zeros((frames, 133, 2), np.float32), np.zeros((frames, 133), np.float16)
    hand_scores = np.zeros((frames, 2), np.float32)
    joints = np.zeros((frames, 2, 21, 2), np.float32)
    metric = np.zeros((frames, 2, 21, 3), np.float32)
    parsing = np.repeat(upper_garment()[None], frames, axis=0)
    for frame in range(frames):
        for joint, place in STANDING.items():
            keypoints[frame, joint], scores[frame, joint] = place, 1
        for side in (0, 1):
            track = (arms or {}).get(side, [RESTING[side]])
            elbow, wrist = track[min(frame, len(track) - 1)]
            keypoints[frame, [Joint.LEFT_ELBOW + side, Joint.LEFT_WRIST + side]] = elbow, wrist
            scores[frame, [Joint.LEFT_ELBOW + side, Joint.LEFT_WRIST + side]] = 1
            if side not in lost:
                hand = hand_at(elbow, wrist)
                hand = hand[0] + (hand - hand[0]) * hand_scale
                joints[frame, side], hand_scores[frame, side] = hand, 0.95
                metric[frame, side, :, :2] = (hand - hand.mean(0)) / (100 * hand_scale)
                keypoints[frame, HAND_START[side] : HAND_START[side] + 21] = hand
                scores[frame, HAND_START[side] : HAND_START[side] + 21] = 0.95
                at = np.clip(np.rint(hand), 0, (SIZE[1] - 1, SIZE[0] - 1)).astype(int)
                for x, y in at:
                    parsing[frame, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = Label.LEFT_ARM + side
    person = PersonTrack(
        boxes=np.tile(np.array([[70, 5, 130, 180]], np.float32), (frames, 1)),
        scores=np.ones(frames, np.float32),
        counts=np.ones(frames, np.uint8),
    )
    artifacts = {
        "person": person,
        "pose": Pose(keypoints=keypoints, scores=scores),
        "hands": Hands(scores=hand_scores, joints_2d=joints, joints_3d=metric, method="drawn"),
        "parsing": parsing,
    }
    return record(artifacts, frames=frames, part=part)


def record(artifacts: dict[str, object], *, frames: int, part: str = "upper") -> Clip:
    """A clip record around `artifacts`."""
    height, width = SIZE
    pair = Pair(pair_id="drawn", video="drawn.mp4", garment=None, part=part)
    source = Source(
        url="drawn.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=width, height=height,
        frame_rate=Fraction(FPS), duration=frames / FPS, size_bytes=1,
    )  # fmt: skip
    span = Span(
        first_frame=0, last_frame=frames - 1, first_pts=0, last_pts=frames - 1, time_base=Fraction(1, FPS),
        fps=Fraction(FPS), frames=frames, width=width, height=height, bytes=1,
    )  # fmt: skip
    return Clip(key=Clip.make_key("drawn", 0), pair=pair, source=source, span=span, artifacts=dict(artifacts))


def nobody(frames: int = 5) -> Clip:
    """A clip in which no model found anything."""
    return record(
        {
            "person": PersonTrack(
                np.zeros((frames, 4), np.float32), np.zeros(frames, np.float32), np.zeros(frames, np.uint8)
            ),
            "pose": Pose(np.zeros((frames, 133, 2), np.float32), np.zeros((frames, 133), np.float16)),
            "hands": Hands(
                np.zeros((frames, 2), np.float32),
                np.zeros((frames, 2, 21, 2), np.float32),
                np.zeros((frames, 2, 21, 3), np.float32),
                "drawn",
            ),
            "parsing": np.zeros((frames, *SIZE), np.uint8),
        },
        frames=frames,
    )
