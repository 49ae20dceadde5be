"""Labels held against contact evidence, which comes another way: where the two disagree, somebody should look.

Shapes: T frames of the clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from annotators import captions
from annotators.captions import COLLAR, FASTENING, HEM, POCKET, Handling
from annotators.smoothing import Segment, Smoothing, as_labels, smooth
from schemas.annotation import Annotation
from schemas.clip import Clip
from schemas.conditions import Contact
from schemas.manifest import Part
from schemas.metrics import Metric
from schemas.stage import Filter

_SURE = 0.3
"""Mean contact over a segment from which its place on the garment counts."""
_ELSEWHERE = 0.5
"""A category that the hand's place speaks against is worth this much."""


@dataclass(frozen=True)
class Finding:
    """A stretch of frames, both ends inclusive, and how far labels and contact agree on it.

    Attributes:
        category, caption: of the label; empty where contact alone speaks of it.
        score: 1 where contact is there and nowhere around, 0.5 where it tells nothing, 0 where it says the opposite;
            None where contact was not asked.
        why: what was seen, in words.

    """

    start_frame: int
    end_frame: int
    category: str
    caption: str
    score: float | None
    why: str


class Agreement(Filter):
    """Compares the labels with contact evidence, and tells how much of the clip bears no label."""

    needs: ClassVar[tuple[str, ...]] = ("annotation", "contact")
    light: ClassVar[bool] = True
    metrics: ClassVar[dict[str, Metric]] = {
        "label_agreement": Metric(
            "how far contact evidence bears out the labels: contact within segments against around them, mean over "
            "those of either; 0.5 where it tells nothing",
            "share",
            (0, 1),
        ),
        "unlabelled_share": Metric("share of frames that nobody could label", "share", (0, 1), (None, 0.5)),
    }

    around: float = Field(
        default=1.0, gt=0, description="Contact within a segment is compared with this long before and after it, in s."
    )
    smoothing: Smoothing = Field(
        default_factory=Smoothing, description="How contact becomes the segments that are sought among the labels."
    )

    def measure(self, clip: Clip) -> dict[str, float]:
        """Mean score of all findings that have one, if there are any; share of frames without a label."""
        annotation: Annotation = clip.artifacts["annotation"]
        scores = [finding.score for finding in self.compare(clip) if finding.score is not None]
        bare = sum(end + 1 - start for start, end in annotation.unlabelled)
        agreement = {"label_agreement": float(np.mean(scores))} if scores else {}
        return {**agreement, "unlabelled_share": bare / max(1, len(annotation.labels))}

    def compare(self, clip: Clip) -> list[Finding]:
        """Every action, and every segment of contact that no label speaks of, in order of time."""
        annotation: Annotation = clip.artifacts["annotation"]
        contact: Contact = clip.artifacts["contact"]
        found = [*self._actions(annotation, contact, clip), *self._missed(annotation, contact, clip)]
        return sorted(found, key=lambda finding: finding.start_frame)

    def _actions(self, annotation: Annotation, contact: Contact, clip: Clip) -> Iterator[Finding]:
        labels = np.array(annotation.labels)
        for action in annotation.actions:
            segment = action.start_frame, action.end_frame
            within, beside = self._contact(segment, contact, others=labels, clip=clip)
            score, why = (1 + within - beside) / 2, f"contact {within:.2f} within, {beside:.2f} around"
            if within >= _SURE and (place := _elsewhere(action.category, segment, contact, clip.pair.part)):
                score, why = score * _ELSEWHERE, f"{why}; {place}"
            yield Finding(*segment, action.category, action.caption, round(score, 4), why)

    def _missed(self, annotation: Annotation, contact: Contact, clip: Clip) -> Iterator[Finding]:
        """Segments of contact without a single labelled or doubtful frame."""
        told = np.array(annotation.labels)
        for start, end in [
            *annotation.unlabelled,
            *((doubt.start_frame, doubt.end_frame) for doubt in annotation.doubts),
        ]:
            told[start : end + 1] = True
        touching = smooth(contact.probability.max(axis=1), fps=float(clip.span.fps), smoothing=self.smoothing)
        others = np.array(as_labels(touching, len(told)))
        for segment in touching:
            if told[segment[0] : segment[1] + 1].any():
                continue
            within, beside = self._contact(segment, contact, others=others, clip=clip)
            handling = Handling.of(*_of_frames(contact, segment), clip.pair.part)
            words = captions.action_caption(handling, captions.category(handling))
            why = f"no label, but contact {within:.2f} within, {beside:.2f} around: {words}"
            yield Finding(*segment, "", "", round((1 - within + beside) / 2, 4), why)

    def _contact(
        self, segment: Segment, contact: Contact, *, others: NDArray[np.bool_], clip: Clip
    ) -> tuple[float, float]:
        """Mean probability that either hand is in contact, within the segment and around it, `others` left out."""
        either = contact.probability.max(axis=1)
        start, end = segment
        reach = max(1, round(self.around * float(clip.span.fps)))
        beside = np.zeros(len(either), bool)
        beside[max(0, start - reach) : end + 1 + reach] = True
        beside[start : end + 1] = False
        beside &= ~others
        return float(either[start : end + 1].mean()), float(either[beside].mean()) if beside.any() else 0.0


def _of_frames(contact: Contact, segment: Segment) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    frames = slice(segment[0], segment[1] + 1)
    return contact.probability[frames], contact.place[frames]


def _elsewhere(category: str, segment: Segment, contact: Contact, part: Part) -> str:
    """Where the hand is, if that is no place for `category`; "" if it may be, or nothing is known of the category."""
    x, y = Handling.of(*_of_frames(contact, segment), part).place
    lower = part is Part.LOWER
    possible = {
        COLLAR: y <= 0.45,
        HEM: y >= 0.55,
        FASTENING: abs(x - 0.5) <= 0.35,
        POCKET: y <= 0.65 if lower else y >= 0.35,
    }
    return "" if possible.get(category, True) else f"the hand is {y:.0%} down the garment, {x:.0%} across"


def for_review(clip: Clip, agreement: Agreement | None = None) -> list[Finding]:
    """What somebody may have to look at in a labelled clip: its doubts, and all that contact can be held against."""
    annotation: Annotation = clip.artifacts["annotation"]
    doubts = [
        Finding(doubt.start_frame, doubt.end_frame, doubt.category, doubt.caption, None, doubt.why)
        for doubt in annotation.doubts
    ]
    bare = [
        Finding(start, end, "", "", None, "no label")
        for start, end in annotation.unlabelled
        if not any(doubt.start_frame <= start and end <= doubt.end_frame for doubt in annotation.doubts)
    ]
    compared = (agreement or Agreement()).compare(clip) if "contact" in clip.artifacts else []
    return [*doubts, *bare, *compared]
