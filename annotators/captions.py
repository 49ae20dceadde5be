"""Words for what was measured: the category and caption of an interaction, and what the person does on the whole.

Only what the evidence tells is said: which hand, where on the garment; never what the hand is meant to do there, nor
colour or brand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotators.arms import ARMS
from annotators.wearing import BodyAxes
from schemas.body import SEEN, Joint, pixels_per_metre
from schemas.conditions import Pose
from schemas.manifest import Part

COLLAR = "adjusting the collar"
HEM = "adjusting the hem"
FASTENING = "opening or closing a fastening"
FABRIC = "stretching or pinching the fabric"
POCKET = "hand in or at a pocket or waistband"
OTHER = "other interaction"

_GARMENT = {
    Part.UPPER: "upper garment",
    Part.LOWER: "lower garment",
    Part.DRESS: "dress",
    Part.INNER: "inner garment",
    Part.OUTER: "outer garment",
}
_DOING = {
    COLLAR: "adjusts the collar of the {garment} with {hand}",
    HEM: "adjusts the hem of the {garment} with {hand}",
    FASTENING: "moves {hand} along the front fastening of the {garment}",
    FABRIC: "pulls or pinches the fabric of the {garment} with {hand}",
    POCKET: "puts {hand} to the pocket or waistband of the {garment}",
    OTHER: "touches the {where} of the {garment} with {hand}",
}


@dataclass(frozen=True)
class Handling:
    """What the hands did in one segment.

    Attributes:
        part: which part of the outfit the garment is.
        hand: "the left hand", "the right hand" or "both hands".
        place: where on the garment it worked, in the median; axes of `schemas.conditions.Contact.place`.
        travel: how far it moved on the garment, across and down, as shares of the garment (10th to 90th percentile).

    """

    part: Part
    hand: str
    place: tuple[float, float]
    travel: tuple[float, float]

    @classmethod
    def of(cls, probability: NDArray[np.float32], place: NDArray[np.float32], part: Part) -> Handling:
        """From `Contact` arrays of the segment's frames: (N, 2) probabilities, (N, 2, 2) places."""
        strength = probability.mean(0)
        sides = np.flatnonzero(strength >= max(float(strength.max()) / 2, 1e-6))
        hand = "both hands" if len(sides) == 2 else ("the left hand", "the right hand")[int(strength.argmax())]
        side = int(strength.argmax())
        sure = (probability[:, side] > 0) & (probability[:, side] >= probability[:, side].max() / 2)
        at = place[sure, side].astype(float)
        if not len(at):
            at = np.full((1, 2), 0.5)
        low, middle, high = np.percentile(at, (10, 50, 90), axis=0)
        return cls(
            part=part,
            hand=hand,
            place=(float(middle[0]), float(middle[1])),
            travel=(float(high[0] - low[0]), float(high[1] - low[1])),
        )


def category(handling: Handling) -> str:
    """Which of `schemas.annotation.DEFAULT_CATEGORIES` the place and motion of the hand speak for."""
    off_centre, (_, y) = abs(handling.place[0] - 0.5), handling.place
    across, down = handling.travel
    if handling.part is Part.LOWER:
        if y < 0.25 or (y < 0.5 and off_centre > 0.25):
            return POCKET
    elif y < 0.2 and off_centre < 0.3:
        return COLLAR
    elif off_centre < 0.15 and y < 0.85 and down > 0.2 and across < 0.15:
        return FASTENING
    if y > 0.85:
        return HEM
    return FABRIC if max(across, down) > 0.12 else OTHER  # a hand that pulls moves; one that rests does not


def action_caption(handling: Handling, name: str) -> str:
    """A short sentence part in the present tense, without a subject, for a segment of category `name`."""
    words = _DOING.get(name, _DOING[OTHER])
    where = ("upper part", "middle", "lower part")[int(np.clip(handling.place[1] * 3, 0, 2))]
    return words.format(garment=_GARMENT[handling.part], hand=handling.hand, where=where)


def global_caption(pose: Pose, *, fps: float) -> str:
    """One plain sentence on the person's posture, view and motion, from the pose track."""
    scale = pixels_per_metre(pose)
    there = scale > 0
    if not there.any():
        return "No person is clearly visible."
    axes = BodyAxes.of(pose)
    words = [_posture(pose, axes, scale, there, fps), _facing(pose, axes, there)]
    extras = [_raised_arms(pose, axes, there)]
    return ", ".join(["A person " + " ".join(words), *(extra for extra in extras if extra)]) + "."


def _posture(pose: Pose, axes: BodyAxes, scale: NDArray[np.float64], there: NDArray[np.bool_], fps: float) -> str:
    keypoints, usual = pose.keypoints.astype(float), float(np.median(scale[there]))
    if _sits(pose, usual, there):
        return "sits"
    hips = axes.hips[there]
    size = scale[there]
    wandered = float(np.ptp(hips[:, 0])) / usual
    came_nearer = float(size.max() / size.min()) if len(size) > 1 else 1.0
    if wandered > 0.6 or came_nearer > 1.3:
        return "walks"
    wrists = keypoints[:, [arm[-1] for arm in ARMS]][there] - hips[:, None]
    if len(wrists) > 1:
        speed = np.linalg.norm(np.diff(wrists, axis=0), axis=2).mean() * fps / usual
        if speed > 0.8:
            return "moves vigorously on the spot"
    return "stands"


def _sits(pose: Pose, usual: float, there: NDArray[np.bool_]) -> bool:
    """Whether the knees, where seen, are mostly nearly as high as the hips."""
    thighs = ((Joint.LEFT_HIP, Joint.LEFT_KNEE), (Joint.RIGHT_HIP, Joint.RIGHT_KNEE))
    drops = [
        (pose.keypoints[:, knee, 1] - pose.keypoints[:, hip, 1])[there & (pose.scores[:, knee] >= SEEN)] / usual
        for hip, knee in thighs
    ]
    seen = np.concatenate(drops)
    return len(seen) > 0 and float(np.median(seen)) < 0.2


def _facing(pose: Pose, axes: BodyAxes, there: NDArray[np.bool_]) -> str:
    """Facing at the start and the end, by how far apart the shoulders appear."""
    keypoints = pose.keypoints.astype(float)
    width = keypoints[:, Joint.LEFT_SHOULDER, 0] - keypoints[:, Joint.RIGHT_SHOULDER, 0]
    torso = np.linalg.norm(axes.hips - axes.shoulders, axis=1)
    openness = (width / np.maximum(torso, 1.0))[there]
    few = max(1, len(openness) // 5)
    first, last = (_view(float(np.median(part))) for part in (openness[:few], openness[-few:]))
    if first == last:
        return _VIEWS[first]
    return f"and turns from {_NOUNS[first]} to {_NOUNS[last]}"


_VIEWS = {"front": "facing the camera", "back": "with the back to the camera", "side": "sideways to the camera"}
_NOUNS = {"front": "the front", "back": "the back", "side": "the side"}


def _view(openness: float) -> str:
    if abs(openness) < 0.3:
        return "side"
    return "front" if openness > 0 else "back"


def _raised_arms(pose: Pose, axes: BodyAxes, there: NDArray[np.bool_]) -> str:
    """Which arms are above the shoulders for a fifth of the time or more."""
    raised = []
    for shoulder, _, wrist in ARMS:
        above = pose.keypoints[:, wrist, 1] < pose.keypoints[:, shoulder, 1]
        seen = pose.scores[:, wrist] >= SEEN
        raised.append(float((above & seen)[there].mean()) >= 0.2)
    if all(raised):
        return "with both arms raised at times"
    if any(raised):
        return f"with the {('left', 'right')[raised.index(True)]} arm raised at times"
    return ""
