"""What the registry says about one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from weights.places import Place

Group = Literal["embedded", "full", "metrics", "demo"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file that a stage or the demo reads, and how anyone can come by it.

    Attributes:
        name: what the code calls it.
        filename: where it lies in the models folder.
        sha256, size: of its content, `size` in bytes; None where they are not published.
        licence: SPDX name, or words where there is none.
        purpose: what it is, in one line.
        group: "embedded" and "full" for models of these tiers, "metrics" for those that generated videos are measured
            with, "demo" for sample videos.
        places: where it can be had, tried in this order. None where it may not be fetched unasked, or not unseen.
        by_hand: how its user comes by it where there are no places.
        installed: package and file under it, as "package/file", where a Python package brings the file along.

    """

    name: str
    filename: str
    sha256: str | None
    size: int | None
    licence: str
    purpose: str
    group: Group
    places: tuple[Place, ...] = ()
    by_hand: str = ""
    installed: str | None = None


@dataclass(frozen=True, kw_only=True)
class Status:
    """How one entry stands on this machine.

    Attributes:
        entry: what was looked for.
        path: the verified file, or None. Where no hash is published, the file that is there.
        faults: why each file that was found is not it; empty with no `path` means that there is none.
        source: after a pull, the place that the file came from; None if it was there before.

    """

    entry: Entry
    path: Path | None
    faults: tuple[str, ...] = field(default=())
    source: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the right bytes are there, as far as can be known."""
        return self.path is not None
