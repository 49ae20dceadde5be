"""Evidence, frame by frame, that a hand handles the garment: geometry, occlusion and relative motion.

A hand in contact has its fingers within a few centimetres of the garment, is seen against the dressed body on most
sides, and moves with the garment. A hand that passes in front fulfils the first two, but not the third; one that
hangs beside the body fulfils the first and third, but not the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from annotators.arms import ARMS, folded, hand_joints, hanging, magnification, relative_speed
from annotators.wearing import BodyAxes, Points, clothed_map, garment_map, garment_places
from schemas.body import SEEN, pixels_per_metre
from schemas.clip import Clip
from schemas.conditions import LEFT, RIGHT, Contact, Hands, Pose
from schemas.manifest import Part
from schemas.stage import Stage

_TIPS = [4, 8, 12, 16, 20]
_FINGERS = [4, 6, 7, 8, 10, 11, 12, 14, 15, 16, 18, 19, 20]  # from the middle joints on, thumb's tip only
_MAP_SCALE = 120.0  # px per metre that label maps are thinned to: 8 mm a pixel is finer than their edges
_NOTHING = 0.01

Values = NDArray[np.float64]


class Ramp(BaseModel):
    """A soft threshold: the logistic function of a measured value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: float = Field(description="Value at which the evidence is one half.")
    width: float = Field(gt=0, description="Distance from there at which it is 0.73 or 0.27.")

    def rising(self, value: Values, *, shift: Values | float = 0.0) -> Values:
        """0..1, growing with `value`; `shift` moves the threshold."""
        return 1 / (1 + np.exp(-np.clip((value - self.at - shift) / self.width, -50, 50)))

    def falling(self, value: Values) -> Values:
        """0..1, falling with `value`."""
        return 1 - self.rising(value)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was measured of both hands, each (T, 2) float64, left first.

    Attributes:
        near: share of finger joints on the garment (the better half of them), 0..1.
        backed: share of what surrounds the fingers that is dressed body, 0..1.
        speed: metres per second relative to the body at the garment.
        magnified: apparent size of the hand over that of the body, about 1 at the body's distance.
        hanging: 1 where the arm hangs straight down, else 0.
        folded: 1 where the forearms are crossed, else 0.
        trust: 1 where the hand is seen; less where only the forearm tells where it is; 0 where nothing does.

    """

    near: Values
    backed: Values
    speed: Values
    magnified: Values
    hanging: Values
    folded: Values
    trust: Values


class ContactEvidence(Stage):
    """Gives the probability, per frame and side, that a hand handles the garment, and where on it."""

    needs: ClassVar[tuple[str, ...]] = ("person", "pose", "hands", "parsing")
    gives: ClassVar[tuple[str, ...]] = ("contact",)

    reach: Ramp = Field(
        default=Ramp(at=0.03, width=0.01), description="Distance of a finger joint from the garment, in metres."
    )
    near: Ramp = Field(
        default=Ramp(at=0.55, width=0.08), description="Share of the better half of the finger joints on the garment."
    )
    ring: float = Field(default=0.08, gt=0, description="Radius, in metres, of what surrounds the fingers.")
    backed: Ramp = Field(
        default=Ramp(at=0.6, width=0.06), description="Share of the fingers' surroundings that is dressed body."
    )
    hanging_backed: float = Field(
        default=0.25, ge=0, description="How much more of it a hand needs whose arm hangs straight down."
    )
    speed: Ramp = Field(
        default=Ramp(at=0.45, width=0.1), description="Speed of the hand relative to the body, in metres per second."
    )
    speed_window: float = Field(default=0.16, gt=0, description="Time over which speed is measured, in seconds.")
    magnified: Ramp = Field(
        default=Ramp(at=1.6, width=0.15), description="Hand's apparent size over the body's: larger is in front of it."
    )
    magnified_window: float = Field(
        default=0.3, gt=0, description="Time over whose median apparent size is taken, in seconds."
    )
    arm_width: float = Field(
        default=0.11, gt=0, description="Width, in metres, of the arm whose own sleeve its hand cannot handle."
    )
    unseen_trust: float = Field(
        default=0.8, ge=0, le=1, description="Trust in a hand that only the forearm shows, in a pocket for instance."
    )

    def process(self, clip: Clip) -> None:
        """Fill in `contact`."""
        pose, hands, parsing = (clip.artifacts[name] for name in ("pose", "hands", "parsing"))
        axes, scale = BodyAxes.of(pose), pixels_per_metre(pose)
        joints = hand_joints(pose, hands, scale)
        evidence = self.measure(pose, hands, parsing, joints, scale, part=clip.pair.part, fps=float(clip.span.fps))
        probability = self.combine(evidence)
        probability[probability < _NOTHING] = 0
        place = garment_places(
            joints[:, :, _TIPS].mean(2), parsing, axes, part=clip.pair.part, window=round(float(clip.span.fps))
        )
        place[probability == 0] = 0
        clip.artifacts["contact"] = Contact(probability=probability.astype(np.float32), place=place.astype(np.float32))

    def measure(
        self,
        pose: Pose,
        hands: Hands,
        parsing: NDArray[np.uint8],
        joints: Points,
        scale: Values,
        *,
        part: Part,
        fps: float,
    ) -> Evidence:
        """All evidence, from artifacts of one clip; `joints` as of `hand_joints`, `scale` in px per metre."""
        axes = BodyAxes.of(pose)
        near, backed = np.zeros((2, len(scale), 2))
        for frame in np.flatnonzero(scale > 0):
            step = max(1, round(float(scale[frame]) / _MAP_SCALE))
            labels = parsing[frame, ::step, ::step]
            garment, clothed = garment_map(labels, part), clothed_map(labels)
            for side in (LEFT, RIGHT):
                arm = pose.keypoints[frame, ARMS[side]].astype(float) / step
                near[frame, side], backed[frame, side] = self._around(
                    joints[frame, side] / step, arm, garment, clothed, float(scale[frame]) / step
                )
        wrists = pose.scores[:, [arm[-1] for arm in ARMS]].astype(float)
        trust = np.where(hands.present, 1.0, self.unseen_trust * wrists * (wrists >= SEEN))
        return Evidence(
            near=near,
            backed=backed,
            speed=relative_speed(pose, hands, axes, scale, fps=fps, window=self.speed_window),
            magnified=magnification(hands, scale, window=round(self.magnified_window * fps)),
            hanging=hanging(pose, axes),
            folded=folded(pose, axes, scale),
            trust=trust * (scale > 0)[:, None],
        )

    def combine(self, evidence: Evidence) -> Values:
        """(T, 2) probability: every condition of contact must hold, so the product of all."""
        return (
            self.near.rising(evidence.near)
            * self.backed.rising(evidence.backed, shift=self.hanging_backed * evidence.hanging)
            * self.speed.falling(evidence.speed)
            * self.magnified.falling(evidence.magnified)
            * (1 - evidence.folded)
            * evidence.trust
        )

    def _around(
        self, joints: Points, arm: Points, garment: NDArray[np.bool_], clothed: NDArray[np.bool_], scale: float
    ) -> tuple[float, float]:
        """Shares of finger joints near the garment and of the fingers' surroundings that are dressed body.

        All in pixels of the thinned maps. The hand's own sleeve is no garment that it could handle.
        """
        import cv2

        height, width = garment.shape
        fingers = joints[_FINGERS]
        inside = ((fingers >= 0) & (fingers <= (width - 1, height - 1))).all(1)
        if inside.mean() < 0.5:
            return 0.0, 0.0
        sleeve = np.zeros((height, width), np.uint8)
        thickness = max(1, round(self.arm_width * scale))
        cv2.polylines(sleeve, [np.rint(arm).astype(np.int32)], False, 1, thickness)
        away = cv2.distanceTransform(np.where(garment & (sleeve == 0), 0, 1).astype(np.uint8), cv2.DIST_L2, 5) / scale
        at = np.clip(np.rint(fingers), 0, (width - 1, height - 1)).astype(int)
        touching = np.sort(self.reach.falling(away[at[:, 1], at[:, 0]]))
        hand = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(hand, cv2.convexHull(np.rint(joints).astype(np.int32)), 1)
        hand[:] = cv2.dilate(hand, np.ones((3, 3), np.uint8))
        ring = np.zeros((height, width), np.uint8)
        centre = np.rint(joints[_TIPS].mean(0)).astype(int)
        cv2.circle(ring, (int(centre[0]), int(centre[1])), max(2, round(self.ring * scale)), 1, -1)
        around = (ring > 0) & (hand == 0) & (sleeve == 0)
        backed = float((clothed & around).sum() / around.sum()) if around.any() else 0.0
        return float(touching[len(touching) // 2 :].mean()), backed
