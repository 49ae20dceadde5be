"""Stages that stand in for the models of a chain, for the tests of labels."""

from __future__ import annotations

import numpy as np

from schemas.clip import Clip
from schemas.conditions import Contact, Pose
from schemas.stage import Stage


class NobodySeen(Stage):
    """Gives pose and contact as where no model finds anything."""

    gives = ("pose", "contact")

    def process(self, clip: Clip) -> None:
        frames = clip.span.frames
        clip.artifacts["pose"] = Pose(np.zeros((frames, 133, 2), np.float32), np.zeros((frames, 133), np.float16))
        clip.artifacts["contact"] = Contact(np.zeros((frames, 2), np.float32), np.zeros((frames, 2, 2), np.float32))
