"""A picture of a built dataset: a row a sample, with its conditions and labels drawn on its frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from media import draw
from media.draw.hands import MESH_COLOUR
from media.draw.timeline import CURVE, category_colour
from schemas.annotation import Annotation
from schemas.conditions import Bool, Float32, Hands, Pose, UInt8
from schemas.errors import DatasetError
from training.fit import Fit
from training.shards import Entry, read_index, read_members
from training.stored import StoredSample

REPAINT = (235, 30, 120)
_SHOULDERS_AND_HIPS, _FACE_AND_HANDS = [5, 6, 11, 12], slice(23, None)

_WIDTH, _MARGIN, _GAP = 1756, 24, 8
_PANEL = 300
_CELL_HEIGHT = 300  # six cells of 3:4 fill a row
_STRIP_HEIGHT = 92
_SHARPER = 2  # overlays are drawn this much larger, then scaled down
_WIDEST = 3 / 4
_INK, _SOFT, _LINE, _PAPER = (28, 32, 40), (104, 112, 124), (222, 226, 232), (255, 255, 255)


def contact_sheet(
    dataset: str | os.PathLike[str], *, out: Path, samples: int | Sequence[str] = 6, title: str = "VVT-Interact"
) -> Path:
    """Draw samples of a built dataset as one PNG.

    Each row has the garment image and captions on the left; on the right frames in order of time, about half of
    them from interactions, with the region to repaint, skeleton and hands drawn on; below them the probability
    per frame and the labelled actions.

    Args:
        dataset: folder that `vvt build` wrote: path or fsspec URL.
        out: PNG file to write; its folder is made.
        samples: keys to draw, or how many, spread over the dataset.
        title: words at the top.

    Returns:
        `out`.

    Raises:
        DatasetError: the dataset is absent, empty or damaged, or lacks one of the keys.

    """
    index = read_index(os.fspath(dataset))
    rows = [_row(entry) for entry in _chosen(index, samples)]
    summary = f"{len(rows)} of {len(index)} samples" if len(index) > 1 else "1 sample"
    parts = [_header(title, summary), *rows]
    sheet = Image.new("RGB", (_WIDTH, sum(part.height for part in parts) + _MARGIN), _PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, optimize=True)
    return out


def frames_to_show(labels: Sequence[bool], count: int) -> list[int]:
    """Up to `count` frames in order: spread over time, with about half of them where `labels` is true."""
    marked = np.asarray(labels, dtype=bool)
    if len(marked) <= count:
        return list(range(len(marked)))
    inside, outside = int(marked.sum()), int((~marked).sum())
    weight = np.ones(len(marked))
    if 0 < inside < outside:
        # The interactions weigh as much as the rest, but no frame more than a share, or it would come twice.
        weight[marked] = max(1.0, min(outside / inside, outside / count))
    reached = np.cumsum(weight) / weight.sum()
    return sorted({int(np.searchsorted(reached, (place + 0.5) / count)) for place in range(count)})


def _chosen(index: Iterable[Entry], samples: int | Sequence[str]) -> list[Entry]:
    entries = list(index)
    if not isinstance(samples, int):
        by_key = {entry.key: entry for entry in entries}
        absent = [key for key in samples if key not in by_key]
        if absent:
            raise DatasetError(f"there is no sample {', '.join(absent)}", where=entries[0].shard)
        return [by_key[key] for key in samples]
    places = np.linspace(0, len(entries) - 1, min(samples, len(entries))).round().astype(int)
    return [entries[place] for place in places]


@dataclass(frozen=True, eq=False)
class _Cell:
    """One frame of a row, enlarged for drawing; all arrays are of this frame alone."""

    frame: int
    image: UInt8
    mask: Bool
    keypoints: Float32
    scores: NDArray[np.float16]
    joints_2d: Float32
    joints_3d: Float32
    hand_scores: Float32


def _row(entry: Entry) -> Image.Image:
    stored = StoredSample(read_members(entry), str(entry))
    annotation: Annotation = stored.artifact("annotation")
    row = Image.new("RGB", (_WIDTH, _CELL_HEIGHT + _STRIP_HEIGHT + _GAP + _MARGIN), _PAPER)
    ImageDraw.Draw(row).line([(_MARGIN, 0), (_WIDTH - _MARGIN, 0)], fill=_LINE)
    left, top = _MARGIN + _PANEL + 2 * _GAP, _MARGIN // 2
    width = _WIDTH - left - _MARGIN
    row.paste(_panel(stored, annotation, height=row.height - _MARGIN), (_MARGIN, top))
    cells = list(_cells(stored, annotation, width=width))
    pictures = [_picture(cell, annotation) for cell in cells]
    spare = width - sum(picture.width for picture in pictures)
    step = spare / max(1, len(pictures) - 1)
    x = float(left)
    for picture in pictures:
        row.paste(picture, (round(x), top))
        x += picture.width + (step if step < 4 * _GAP else _GAP)
    marks = [cell.frame for cell in cells]
    strip = draw.timeline(annotation, width=width, height=_STRIP_HEIGHT, text_size=18, marks=marks)
    row.paste(Image.fromarray(strip), (left, top + _CELL_HEIGHT + _GAP))
    return row


def _cells(stored: StoredSample, annotation: Annotation, *, width: int) -> Iterator[_Cell]:
    """As many frames as fit into `width`, wide ones cut to 3:4 around the person."""
    total = len(annotation.labels)
    span = stored.meta().span
    pose: Pose = stored.per_frame("pose", total)
    hands: Hands = stored.per_frame("hands", total)
    mask = stored.maps("agnostic_mask", (total, span.height, span.width))
    cut = _cut(pose, height=span.height, width=span.width)
    shape = (span.height, cut.stop - cut.start)
    cell_width = round(_CELL_HEIGHT * shape[1] / shape[0])
    fit = Fit.into((_CELL_HEIGHT * _SHARPER, cell_width * _SHARPER), shape)
    frames = frames_to_show(annotation.labels, max(1, (width + _GAP) // (cell_width + _GAP)))
    images = fit.pictures(np.ascontiguousarray(stored.images(frames, total=total)[:, :, cut]))
    masks = fit.masks(np.ascontiguousarray(mask[frames][:, :, cut]))
    moved = np.array((cut.start, 0), dtype=np.float32)
    for frame, image, masked in zip(frames, images, masks, strict=True):
        scores = pose.scores[frame].copy()
        scores[_FACE_AND_HANDS] = 0  # hands are drawn as solids
        yield _Cell(
            frame=frame,
            image=image,
            mask=masked,
            keypoints=fit.points(pose.keypoints[frame] - moved),
            scores=scores,
            joints_2d=fit.points(hands.joints_2d[frame] - moved),
            joints_3d=hands.joints_3d[frame],
            hand_scores=hands.scores[frame],
        )


def _cut(pose: Pose, *, height: int, width: int) -> slice:
    """Columns to show: all, or of a wide video those around the torso."""
    kept = min(width, round(height * _WIDEST))
    seen = pose.scores[:, _SHOULDERS_AND_HIPS] > draw.VISIBLE
    across = pose.keypoints[:, _SHOULDERS_AND_HIPS, 0][seen]
    middle = float(np.median(across)) if across.size else width / 2
    start = round(min(max(middle - kept / 2, 0), width - kept))
    return slice(start, start + kept)


def _picture(cell: _Cell, annotation: Annotation) -> Image.Image:
    """The frame with its conditions drawn on, a frame in the colour of its action, and its number."""
    height, width = cell.mask.shape
    drawn = draw.tint(cell.image, cell.mask, colour=REPAINT, opacity=0.28, outline=3)
    body = draw.skeleton(cell.keypoints, cell.scores, height=height, width=width)
    drawn = draw.paste(drawn, body, opacity=0.8)
    hands = draw.hand_picture(cell.joints_2d, cell.joints_3d, cell.hand_scores, height=height, width=width)
    picture = Image.fromarray(draw.paste(drawn, hands, opacity=0.85)).reduce(_SHARPER)
    pen = ImageDraw.Draw(picture)
    pen.font = ImageFont.load_default(size=18)
    action = next((a for a in annotation.actions if a.start_frame <= cell.frame <= a.end_frame), None)
    colour = category_colour(action.category) if action else _SOFT
    if action:
        pen.rectangle([0, 0, picture.width - 1, picture.height - 1], outline=colour, width=5)
    words = str(cell.frame)
    pen.rectangle([0, picture.height - 26, pen.textlength(words) + 12, picture.height], fill=colour)
    pen.text((6, picture.height - 23), words, fill=_PAPER)
    return picture


def _panel(stored: StoredSample, annotation: Annotation, *, height: int) -> Image.Image:
    """Garment image, key, part and captions."""
    meta = stored.meta()
    panel = Image.new("RGB", (_PANEL, height), _PAPER)
    garment = Image.fromarray(stored.artifact("garment"))
    garment.thumbnail((_PANEL, height // 2))
    frame = ImageOps.expand(garment, 1, _LINE)
    panel.paste(frame, (0, 0))
    page = _Page(ImageDraw.Draw(panel), top=frame.height + 10, bottom=height, width=_PANEL)
    page.write(meta.key, size=22, colour=_INK)
    source = " (cut from the video)" if meta.garment_source == "crop" else ""
    page.write(f"{meta.pair.part} garment{source}", size=18, colour=_SOFT)
    size = f"{meta.span.width} x {meta.span.height}"  # the bundled font has no ×
    page.write(f"{meta.span.frames} frames, {float(meta.span.fps):g} fps, {size}", size=18, colour=_SOFT)
    page.write(annotation.global_caption, size=19, colour=_INK, space=8)
    return panel


def _header(title: str, summary: str) -> Image.Image:
    header = Image.new("RGB", (_WIDTH, 76), _PAPER)
    pen = ImageDraw.Draw(header)
    pen.text((_MARGIN, 18), title, fill=_INK, font=ImageFont.load_default(size=32))
    left = _MARGIN + pen.textlength(title, font=ImageFont.load_default(size=32)) + 20
    pen.font = ImageFont.load_default(size=20)
    pen.text((left, 29), summary, fill=_SOFT)
    hands = tuple(round(255 * channel) for channel in MESH_COLOUR)
    legend = (("region to repaint", REPAINT), ("hands", hands), ("probability of interaction", CURVE))
    x = float(_WIDTH - _MARGIN)
    for words, colour in reversed(legend):
        x -= pen.textlength(words)
        pen.text((x, 29), words, fill=_SOFT)
        pen.rectangle([x - 24, 33, x - 8, 49], fill=colour)
        x -= 48
    return header


@dataclass
class _Page:
    """Text written downwards into a column, as far as there is room."""

    pen: ImageDraw.ImageDraw
    top: int
    bottom: int
    width: int

    def write(self, words: str, *, size: int, colour: tuple[int, int, int], space: int = 0) -> None:
        self.pen.font = ImageFont.load_default(size=size)
        longest = max((self.pen.textlength(word) for word in words.split()), default=0)
        if longest > self.width:  # a key has no place to break
            self.pen.font = ImageFont.load_default(size=size * self.width / longest)
        self.top += space
        for line in self._lines(words):
            if self.top + size + 4 > self.bottom:
                return
            self.pen.text((0, self.top), line, fill=colour)
            self.top += size + 5

    def _lines(self, words: str) -> Iterator[str]:
        line = ""
        for word in words.split():
            longer = f"{line} {word}".strip()
            if line and self.pen.textlength(longer) > self.width:
                yield line
                line = word
            else:
                line = longer
        if line:
            yield line
