"""The embedded stages for person, pose and hands."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from media import frames
from preprocess.body_track import follow_body, look_for_people
from preprocess.hands import HandSearch, find_hands
from preprocess.mediapipe_tasks import BODY_MODEL, HAND_MODEL
from preprocess.pose import person_track, whole_body
from schemas.clip import Clip
from schemas.stage import Stage


class MediaPipeBody(Stage):
    """Gives the presenter's track, whole-body pose and both hands: one look at the frames serves all three."""

    gives: ClassVar[tuple[str, ...]] = ("person", "pose", "hands")
    weights: ClassVar[tuple[str, ...]] = (BODY_MODEL, HAND_MODEL)
    version: ClassVar[int] = 2

    people_fps: float = Field(default=4.0, gt=0, description="How often people are looked for and counted, per second.")
    most_people: int = Field(default=4, ge=1, le=10, description="Most people that are told apart in a frame.")
    region_margin: float = Field(
        default=0.25, ge=0, description="Room around the presenter that the pose model sees, as share of their size."
    )
    hand_search: HandSearch = Field(default_factory=HandSearch, description="How hands are looked for.")

    def process(self, clip: Clip) -> None:
        """Fill in `person`, `pose` and `hands`."""
        images = frames(clip).images
        fps = float(clip.span.fps)
        sightings = look_for_people(images, every=max(1, round(fps / self.people_fps)), most=self.most_people)
        track = follow_body(images, sightings, margin=self.region_margin)
        hands = find_hands(images, whole_body(track), fps=fps, search=self.hand_search)
        clip.artifacts["person"] = person_track(track, sightings, width=clip.span.width, height=clip.span.height)
        clip.artifacts["pose"] = whole_body(track, hands)
        clip.artifacts["hands"] = hands


class MediaPipeHands(Stage):
    """Gives both hands on the pose of whichever stage made it."""

    needs: ClassVar[tuple[str, ...]] = ("video", "pose")
    gives: ClassVar[tuple[str, ...]] = ("hands",)
    weights: ClassVar[tuple[str, ...]] = (HAND_MODEL,)
    version: ClassVar[int] = 2

    hand_search: HandSearch = Field(default_factory=HandSearch, description="How hands are looked for.")

    def process(self, clip: Clip) -> None:
        """Fill in `hands`."""
        clip.artifacts["hands"] = find_hands(
            frames(clip).images, clip.artifacts["pose"], fps=float(clip.span.fps), search=self.hand_search
        )
