"""What the quality of generated videos came to: records of the report, and the table made of them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from training.bootstrap import Estimate
from training.isr import Kind, Score
from training.quality_settings import QualitySettings

Part = Literal["all", "interactive"]
"""Frames measured: all, or only those in which a hand handles the garment (of clips: those with such a frame)."""
_JUDGED: tuple[Kind | None, ...] = ("generated", None, "reference")
"""Whose ISR stands in each column. Interactions are judged once: there is no other rate of interactive frames."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Distance(_Record):
    """A Fréchet distance between real and generated clips; None where `note` says why there can be none.

    `note` also says where there are too few clips for it to be more than a comparison on the same ones.
    """

    value: float | None
    clips: int
    note: str = ""


class PartScores(_Record):
    """Scores over one part of the frames; None: not measured (unpaired, no weights given, or no such frames).

    SSIM and LPIPS are means over samples of the mean over a sample's frames, with intervals over samples.
    """

    samples: int
    frames: int
    ssim: Estimate | None = None
    lpips: Estimate | None = None
    vfid_i: Distance | None = None
    vfid_r: Distance | None = None
    fvd: Distance | None = None


class SampleScores(_Record):
    """One sample: number of frames, and mean SSIM and LPIPS over each part of them, None where it has none."""

    key: str
    frames: int
    interactive_frames: int
    height: int
    width: int
    ssim: dict[Part, float | None] | None = None
    lpips: dict[Part, float | None] | None = None


class InteractionScores(_Record):
    """What `isr.json` said: identity of the judge, and the rates over all interactions, by kind of video."""

    judge: dict[str, str]
    scores: dict[Kind, Score]


class QualityReport(_Record):
    """What `quality` writes.

    Attributes:
        paired: whether each person was dressed in the garment that they wear, so that the real video is the answer.
        weights: setting → sha256 of the file it names.
        samples: each by itself, in the order of the dataset.

    """

    version: Literal[1] = 1
    dataset: str
    split: str
    generated: str
    paired: bool
    settings: QualitySettings
    weights: dict[str, str]
    scores: dict[Part, PartScores]
    samples: tuple[SampleScores, ...]
    interactions: InteractionScores | None = None


def columns(report: QualityReport) -> tuple[str, ...]:
    """Of the table: parts of the frames, and the real videos where the judge saw them."""
    parts = tuple(f"{part} frames" for part in report.scores)
    seen = report.interactions and "reference" in report.interactions.scores
    return (*parts, "real videos") if seen else parts


def rows(report: QualityReport) -> dict[str, tuple[str, ...]]:
    """Name of a metric → its cells under `columns`; what was not measured is a dash."""
    parts = report.scores.values()
    found = {
        "VFID_I ↓": [_distance(each.vfid_i) for each in parts],
        "VFID_R ↓": [_distance(each.vfid_r) for each in parts],
        "SSIM ↑": [estimate(each.ssim) for each in parts],
        "LPIPS ↓": [estimate(each.lpips) for each in parts],
        "FVD ↓": [_distance(each.fvd) for each in parts],
    }
    wide = len(columns(report))
    told = {name: (*cells, *("–" for _ in range(wide - len(cells)))) for name, cells in found.items()}
    isr = report.interactions.scores if report.interactions else {}
    rates = [isr[kind].isr if kind and kind in isr else None for kind in _JUDGED[:wide]]
    return told | {"ISR ↑": tuple(estimate(rate) for rate in rates)}


def notes(report: QualityReport) -> list[str]:
    """What is to be known of the distances, one sentence each."""
    return [
        f"{name} of {part} frames: {distance.note} ({distance.clips} clips)."
        for part, scores in report.scores.items()
        for name, distance in (("VFID_I", scores.vfid_i), ("VFID_R", scores.vfid_r), ("FVD", scores.fvd))
        if distance and distance.note
    ]


def estimate(found: Estimate | None) -> str:
    """`0.123 [0.100, 0.150]`."""
    if found is None:
        return "–"
    if found.low is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _distance(found: Distance | None) -> str:
    return "–" if found is None or found.value is None else f"{found.value:.2f}"
