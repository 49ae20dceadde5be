"""Person on the screen: how large, and for how long."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from schemas.clip import Clip
from schemas.conditions import PersonTrack
from schemas.metrics import Metric
from schemas.stage import Filter


class PersonScreen(Filter):
    """Share of the screen that the presenter's box takes, and share of the clip that they are seen in."""

    needs: ClassVar[tuple[str, ...]] = ("person",)
    light: ClassVar[bool] = True
    metrics: ClassVar[dict[str, Metric]] = {
        "person_presence": Metric("share of frames in which the presenter is seen", "share", (0, 1), (0.9, None)),
        "person_screen_share": Metric(
            "share of the picture in the presenter's box, mean over the frames they are seen in",
            "share",
            (0, 1),
            (0.1, None),
        ),
    }

    def measure(self, clip: Clip) -> dict[str, float]:
        """A clip without anybody measures 0 and 0."""
        person: PersonTrack = clip.artifacts["person"]
        seen = person.scores > 0
        limits = (clip.span.width, clip.span.height)
        corners = np.clip(person.boxes[seen].reshape(-1, 2, 2), 0, limits) / limits
        shares = (corners[:, 1] - corners[:, 0]).prod(axis=1)
        return {
            "person_presence": float(seen.mean()),
            "person_screen_share": float(shares.mean()) if seen.any() else 0.0,
        }
