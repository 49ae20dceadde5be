"""Evidence, frame by frame, that a hand handles the garment: geometry, occlusion and relative motion.

A hand in contact has its fingers within a few centimetres of the garment, is seen against the body on most
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
from annotators.touch import TIPS, arm_mask, in_view, share_backed, share_touching, window_around
from annotators.wearing import OWN_ARM, BodyAxes, Points, body_map, garment_map, garment_places
from schemas.body import SEEN, pixels_per_metre
from schemas.clip import Clip
from schemas.conditions import LEFT, RIGHT, Contact, Hands, Pose
from schemas.stage import Stage

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
        backed: share of what surrounds the fingers that is body, dressed or bare, 0..1.
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

    needs: ClassVar[tuple[str, ...]] = ("pose", "hands", "parsing")
    gives: ClassVar[tuple[str, ...]] = ("contact",)

    reach: Ramp = Field(
        default=Ramp(at=0.03, width=0.01), description="Distance of a finger joint from the garment, in metres."
    )
    near: Ramp = Field(
        default=Ramp(at=0.55, width=0.08), description="Share of the better half of the finger joints on the garment."
    )
    ring: float = Field(default=0.08, gt=0, description="Radius, in metres, of what surrounds the fingers.")
    backed: Ramp = Field(
        default=Ramp(at=0.55, width=0.06),
        description="Share of the fingers' surroundings that is body, dressed or bare.",
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
        scale = pixels_per_metre(pose)
        joints = hand_joints(pose, hands, scale)
        probability = self.combine(self.measure(clip, joints, scale))
        probability[probability < _NOTHING] = 0
        window = round(float(clip.span.fps))
        place = garment_places(
            joints[:, :, TIPS].mean(2), parsing, BodyAxes.of(pose), part=clip.pair.part, window=window
        )
        place[probability == 0] = 0
        clip.artifacts["contact"] = Contact(probability=probability.astype(np.float32), place=place.astype(np.float32))

    def measure(self, clip: Clip, joints: Points, scale: Values) -> Evidence:
        """All evidence of one clip; `joints` as of `hand_joints`, `scale` (T,) in px per metre."""
        pose: Pose = clip.artifacts["pose"]
        hands: Hands = clip.artifacts["hands"]
        axes, fps = BodyAxes.of(pose), float(clip.span.fps)
        near, backed = self._on_maps(clip, joints, scale)
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

    def _on_maps(self, clip: Clip, joints: Points, scale: Values) -> tuple[Values, Values]:
        """`near` and `backed` of `Evidence`, from parsing maps thinned to about `_MAP_SCALE`."""
        pose, parsing, part = clip.artifacts["pose"], clip.artifacts["parsing"], clip.pair.part
        near, backed = np.zeros((2, len(scale), 2))
        room = max(self.ring, self.reach.at + 20 * self.reach.width)  # farther away nothing counts
        for frame in np.flatnonzero(scale > 0):
            step = max(1, round(float(scale[frame]) / _MAP_SCALE))
            labels = parsing[frame, ::step, ::step]
            px = float(scale[frame]) / step
            for side in (LEFT, RIGHT):
                hand = joints[frame, side] / step
                if not in_view(hand, *labels.shape):
                    continue
                window, corner = window_around(hand, *labels.shape, margin=room * px)
                here, hand = labels[window], hand - corner
                arm = pose.keypoints[frame, ARMS[side]].astype(float) / step - corner
                own = arm_mask(arm, *here.shape, thickness=self.arm_width * px)
                near[frame, side] = share_touching(
                    hand, garment_map(here, part) & ~own, scale=px, on=self.reach.falling
                )
                own |= here == OWN_ARM[side]
                backed[frame, side] = share_backed(hand, body_map(here), own, scale=px, radius=self.ring)
        return near, backed

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
