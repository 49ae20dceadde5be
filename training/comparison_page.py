"""The page of `quality`: for each sample one video of real | garment | agnostic | generated, and its scores.

The four stand in one video file, so that they play, stop and step together, under the browser's own controls, and no
script can let them drift apart. The files lie beside the page: as data in it they would make it gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from urllib.parse import quote

import av
import jinja2
import numpy as np

from media import draw
from media.encode import ClipEncoder
from media.recording import DecodedFrame
from schemas.annotation import ActionCaption
from schemas.conditions import UInt8
from training.compared import Compared, open_compared
from training.fit import Fit
from training.quality_report import QualityReport, SampleScores, columns, notes, rows
from training.shards import read_index

PANELS = ("real", "garment", "agnostic", "generated")
_TEMPLATE = Path(__file__).with_name("comparison_template.html")
_VIDEOS = "videos"
_HEIGHT = 480
"""Pixels of the panels, at most."""
_AT_ONCE = 8
"""Frames held."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One sample on the page: its video by relative URL, `width`×`height` px, and the spans of its actions."""

    scores: SampleScores
    url: str
    width: int
    height: int
    caption: str
    actions: tuple[ShownAction, ...]


@dataclass(frozen=True, kw_only=True)
class ShownAction:
    """An action: when it starts, in seconds, and where it lies on the video's timeline, in percent."""

    words: str
    seconds: float
    left: float
    width: float


def write_page(report: QualityReport, folder: Path) -> Path:
    """Write `folder`/index.html and the videos that it shows. Returns the page.

    One sample is in memory at a time; the worst by SSIM stand first, where that was measured.

    Raises:
        EvaluationError, DatasetError: a video has gone or changed since it was measured.

    """
    (folder / _VIDEOS).mkdir(parents=True, exist_ok=True)
    scores = {each.key: each for each in report.samples}
    shown = []
    for entry in read_index(report.dataset, split=report.split):
        compared = open_compared(entry, report.generated, frames=report.settings.frames)
        shown.append(_write_video(compared, scores[entry.key], folder))
    shown.sort(key=lambda each: (_worst(each.scores), each.scores.key))
    page = folder / "index.html"
    page.write_text(
        _template().render(
            report=report, columns=columns(report), rows=rows(report), notes=notes(report), panels=PANELS, shown=shown
        ),
        encoding="utf-8",
    )
    return page


def _worst(scores: SampleScores) -> float:
    found = scores.ssim["all"] if scores.ssim else None
    return 1.0 if found is None else found


def _write_video(compared: Compared, scores: SampleScores, folder: Path) -> Shown:
    fps = Fraction(compared.real.fps)
    height, width = _panel(compared)
    encoder = ClipEncoder(width=width * len(PANELS), height=height, fps=fps, time_base=1 / fps)
    for number, picture in enumerate(_side_by_side(compared, height=height, width=width)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        encoder.add(DecodedFrame(index=number, pts=number, picture=frame, bytes=0))
    name = f"{_VIDEOS}/{compared.key}.mp4"
    (folder / name).write_bytes(encoder.finish().video)
    actions = [each for each in compared.annotation.actions if each.start_frame < compared.frames]
    return Shown(
        scores=scores,
        url=quote(name),
        width=width * len(PANELS),
        height=height,
        caption=compared.annotation.global_caption,
        actions=tuple(_shown_action(action, frames=compared.frames, fps=float(fps)) for action in actions),
    )


def _shown_action(action: ActionCaption, *, frames: int, fps: float) -> ShownAction:
    end = min(action.end_frame + 1, frames)
    return ShownAction(
        words=f"{action.category}: {action.caption}",
        seconds=(action.start_frame + 0.5) / fps,  # the middle of the frame: a seek to its edge may show the one before
        left=100 * action.start_frame / frames,
        width=100 * (end - action.start_frame) / frames,
    )


def _panel(compared: Compared) -> tuple[int, int]:
    """Even (height, width) of one panel: the generated video's, made smaller where it is higher than `_HEIGHT`."""
    scale = min(1.0, _HEIGHT / compared.generated.height)
    return _even(compared.generated.height * scale), _even(compared.generated.width * scale)


def _even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))


def _side_by_side(compared: Compared, *, height: int, width: int) -> Iterator[UInt8]:
    """(height, 4 · width, 3) uint8 RGB, frame by frame."""
    garment = compared.stored.artifact("garment")[None]
    still = Fit.into((height, width), garment.shape[1:3]).pictures(garment, fill=255)
    mask = compared.stored.maps(
        "agnostic_mask", (len(compared.annotation.labels), compared.real.height, compared.real.width)
    )
    for start, (real, generated) in enumerate(compared.whole_pictures(_AT_ONCE)):
        agnostic = draw.agnostic(real, mask[start * _AT_ONCE : start * _AT_ONCE + len(real)])
        panels = [
            Fit.into((height, width), pictures.shape[1:3]).pictures(pictures)
            for pictures in (real, agnostic, generated)
        ]
        panels.insert(1, np.broadcast_to(still, panels[0].shape))
        yield from np.concatenate(panels, axis=2)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
