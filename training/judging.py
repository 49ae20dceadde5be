"""How the judge is asked: settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from annotators.vlm.answers import NONE_OF_THESE
from annotators.vlm.prompts import Language
from schemas.annotation import DEFAULT_CATEGORIES


class Judging(BaseModel):
    """What the judge is shown, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: int = Field(default=12, ge=1, description="Pictures of an interaction, at most, evenly spread over it.")
    context: float = Field(default=0.3, ge=0, description="Seconds shown before and after an interaction.")
    max_side: int = Field(default=448, ge=28, description="Longer side of the pictures shown, in pixels, at most.")
    frames: int | None = Field(
        default=None,
        ge=1,
        description="Only interactions that begin in the first so many frames of a sample, cut off there, as "
        "`InteractDataset(frames=…)` does; null: all.",
    )
    categories: tuple[str, ...] = Field(
        default=DEFAULT_CATEGORIES, min_length=1, description="Shown to the judge; every annotated one is among them."
    )
    language: Language = Field(default="en", description="Of the questions: en or zh.")
    seed: int = Field(default=0, description="Of the orders shown, of the order of asking, and of the bootstrap.")
    max_unjudged: float = Field(
        default=0.02, ge=0, le=1, description="Share of interactions without a usable answer that is still no error."
    )
    together: int = Field(default=32, ge=1, description="Videos that are held in memory and asked about at once.")

    @property
    def options(self) -> tuple[str, ...]:
        """Categories to choose from, with "none of these"."""
        return self.categories if NONE_OF_THESE in self.categories else (*self.categories, NONE_OF_THESE)
