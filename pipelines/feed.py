"""Rows that come into being while a build runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipelines.jobs import SourceJob


class Feed(Protocol):
    """Gives the engine recordings that were not there when it began, such as the segments of a live stream."""

    def poll(self) -> Sequence[SourceJob]:
        """What has come since the last call. Called about twice a second; must return at once."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, and `poll` has given all."""

    def close(self) -> None:
        """Stop and let go of everything, at once; called at the end of a run, whatever ended it."""
