"""The embedded labeller: from contact evidence to segments with categories and captions."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from annotators import captions
from annotators.smoothing import Smoothing, as_labels, smooth
from schemas.annotation import DEFAULT_CATEGORIES, ActionCaption, Annotation
from schemas.clip import Clip
from schemas.conditions import Contact
from schemas.stage import Stage


class ContactLabels(Stage):
    """Gives the annotation: who handles the garment when, where on it, and a caption of the whole clip."""

    needs: ClassVar[tuple[str, ...]] = ("contact", "pose")
    gives: ClassVar[tuple[str, ...]] = ("annotation",)
    light: ClassVar[bool] = True

    smoothing: Smoothing = Field(default_factory=Smoothing, description="How probabilities become segments.")
    categories: tuple[str, ...] = Field(
        default=DEFAULT_CATEGORIES, min_length=1, description="Categories of interaction that may be given."
    )
    fallback: str = Field(
        default=captions.OTHER, description="Category, one of `categories`, of what fits none of the others."
    )

    @model_validator(mode="after")
    def _fallback_is_known(self) -> ContactLabels:
        if self.fallback not in self.categories:
            raise ValueError(f"fallback {self.fallback!r} is not one of the categories: {', '.join(self.categories)}")
        return self

    def process(self, clip: Clip) -> None:
        """Fill in `annotation`."""
        contact: Contact = clip.artifacts["contact"]
        fps = float(clip.span.fps)
        probabilities = contact.probability.max(axis=1)
        found = smooth(probabilities, fps=fps, smoothing=self.smoothing)
        clip.artifacts["annotation"] = Annotation(
            global_caption=captions.global_caption(clip.artifacts["pose"], fps=fps),
            actions=tuple(self._action(contact, clip, start, end) for start, end in found),
            probabilities=tuple(round(float(value), 4) for value in probabilities),
            labels=as_labels(found, len(probabilities)),
            labeller="contact",
        )

    def _action(self, contact: Contact, clip: Clip, start: int, end: int) -> ActionCaption:
        frames = slice(start, end + 1)
        handling = captions.Handling.of(contact.probability[frames], contact.place[frames], clip.pair.part)
        category = captions.category(handling)
        return ActionCaption(
            category=category if category in self.categories else self.fallback,
            caption=captions.action_caption(handling, category),
            start_frame=start,
            end_frame=end,
        )
