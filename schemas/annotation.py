"""What happens in a clip, and when: captions, interaction segments, per-frame evidence."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_CATEGORIES: tuple[str, ...] = (
    "adjusting the collar",
    "adjusting the hem",
    "opening or closing a fastening",
    "stretching or pinching the fabric",
    "hand in or at a pocket or waistband",
    "other interaction",
)
"""Categories of interaction. The paper names the first two and the last; the list is a setting."""


class ActionCaption(BaseModel):
    """One interaction: ("action description", [start_frame, end_frame]), both frames inclusive, from 0."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: str
    caption: str
    start_frame: Annotated[int, Field(ge=0)]
    end_frame: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _ordered(self) -> ActionCaption:
        if self.end_frame < self.start_frame:
            raise ValueError(f"{self.end_frame = } is before {self.start_frame = }")
        return self


class Doubt(BaseModel):
    """A stretch of frames, both ends inclusive, that somebody should look at: what was seen there, and why it is open.

    `category` and `caption` are what the labeller said of it; empty where it said nothing that can be used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    category: str = ""
    caption: str = ""
    start_frame: Annotated[int, Field(ge=0)]
    end_frame: Annotated[int, Field(ge=0)]
    why: str


class Annotation(BaseModel):
    """All that is said about one clip of T frames.

    `probabilities` (T values in 0..1) is the evidence per frame before smoothing; `labels` (T values) is true on
    the frames of a segment after it; `actions` are those segments in time order, without overlap. `labeller` names
    who said so, e.g. "contact" or a model with its prompt version.

    `unlabelled` are runs of frames (first and last, inclusive, in order) that bear no label: false in `labels`, but
    whether they show an interaction is not known. `doubts` are for review; they may lie on actions or beside them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    global_caption: str
    actions: tuple[ActionCaption, ...]
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    labels: tuple[bool, ...]
    labeller: str
    unlabelled: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...] = ()
    doubts: tuple[Doubt, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Annotation:
        if len(self.probabilities) != len(self.labels):
            raise ValueError(f"{len(self.probabilities)} probabilities but {len(self.labels)} labels")
        shown = [False] * len(self.labels)
        last = -1
        for action in self.actions:
            if action.end_frame >= len(self.labels):
                raise ValueError(f"action ends at frame {action.end_frame}, the clip at {len(self.labels) - 1}")
            if action.start_frame <= last:
                raise ValueError(f"actions overlap or are out of order at frame {action.start_frame}")
            last = action.end_frame
            shown[action.start_frame : last + 1] = [True] * (last + 1 - action.start_frame)
        if shown != list(self.labels):
            raise ValueError("labels are not the union of the actions")
        last = -1
        for start, end in self.unlabelled:
            if not last < start <= end < len(self.labels):
                raise ValueError(f"unlabelled frames {start} to {end} are out of order, or outside of the clip")
            if any(shown[start : end + 1]):
                raise ValueError(f"unlabelled frames {start} to {end} lie on an action")
            last = end
        return self
