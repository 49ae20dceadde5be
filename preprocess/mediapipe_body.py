"""The embedded stage for person, pose and hands: one look at the frames serves all three."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from media import frames
from preprocess.hands import HandSearch, find_hands
from preprocess.mediapipe_tasks import BODY_MODEL, HAND_MODEL
from preprocess.pose import follow_body, look_for_people, person_track, whole_body
from schemas.clip import Clip
from schemas.stage import Stage


class MediaPipeBody(Stage):
    """Gives the presenter's track, whole-body pose and both hands, by MediaPipe's models."""

    gives: ClassVar[tuple[str, ...]] = ("person", "pose", "hands")
    weights: ClassVar[tuple[str, ...]] = (BODY_MODEL, HAND_MODEL)

    people_fps: float = Field(
        default=4.0, gt=0, description="How often people are looked for and counted, per second."
    )
    most_people: int = Field(
        default=4, ge=1, le=10, description="Most people that are told apart in a frame."
    )
    region_margin: float = Field(
        default=0.25,
        ge=0,
        description="Spare room around the presenter that the pose model sees, as share of their size.",
    )
    search: HandSearch = Field(default_factory=HandSearch, description="How hands are looked for.")

    def process(self, clip: Clip) -> None:
        """Fill in `person`, `pose` and `hands`."""
        images = frames(clip).images
        every = max(1, round(float(clip.span.fps) / self.people_fps))
        sightings = look_for_people(images, every=every, most=self.most_people)
        track = follow_body(images, sightings, margin=self.region_margin)
        hands = find_hands(images, whole_body(track), search=self.search)
        clip.artifacts["person"] = person_track(
            track, sightings, width=clip.span.width, height=clip.span.height
        )
        clip.artifacts["pose"] = whole_body(track, hands)
        clip.artifacts["hands"] = hands
