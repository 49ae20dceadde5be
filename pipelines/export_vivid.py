"""The folder layout and encodings of ViViD, as its own loader and those of CatV2TON read them.

Sources: https://github.com/alibaba-yuanjing-aigclab/ViViD (README.md, vivid.py, data/) and a public copy of
https://github.com/Zheng-Chong/CatV2TON (data/video_dataset.py, eval_video_try_on.py). docs/other_trainers.md says what
each of them reads, and where they differ.

Shape legend: T frames, H×W pixels of the videos written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from media import draw
from media.encode import ClipEncoder
from media.recording import DecodedFrame
from pipelines import urls
from schemas.annotation import ActionCaption, Annotation
from schemas.conditions import UInt8
from schemas.errors import ConfigError
from schemas.manifest import Part
from training.fit import Fit, Size
from training.shards import Entry, read_members
from training.stored import StoredSample

SUBDIRS = {
    Part.UPPER: "upper_body",
    Part.INNER: "upper_body",
    Part.OUTER: "upper_body",
    Part.LOWER: "lower_body",
    Part.DRESS: "dresses",
}
CATEGORIES = {"upper_body": "upper", "lower_body": "lower", "dresses": "overall"}
"""Folders of ViViD, and CatV2TON's words for them."""

CLOTH_SIZE: Size = (1024, 768)
"""(height, width) of ViViD's garment images."""

UNFINISHED = ".unfinished"
PICTURE_CRF, MAP_CRF = 12, 1
"""x264's rate factors. At 1, masks come back exactly once thresholded; 0 would be lossless and smaller, but of a
profile (High 4:4:4) that hardware decoders refuse (docs/other_trainers.md has the numbers)."""

_CHUNK = 32  # frames decoded at once


@dataclass(frozen=True, kw_only=True)
class Item:
    """One sample to write: its place in the shards, and what the index says of it.

    Attributes:
        name: number of the sample in the dataset, of seven digits, as ViViD names its own.
        subdir: a key of `CATEGORIES`.

    """

    entry: Entry
    name: str
    subdir: str
    pair_id: str
    frames: int
    caption: str
    actions: tuple[ActionCaption, ...]
    licence: str | None

    @property
    def video(self) -> str:
        """File name of its videos, e.g. "0000001_detail.mp4"."""
        return f"{self.name}_detail.mp4"

    @property
    def image(self) -> str:
        """File name of its garment images, e.g. "0000001_in_xl.jpg"."""
        return f"{self.name}_in_xl.jpg"


@dataclass(frozen=True, kw_only=True)
class VividFolder:
    """Writes samples below the local folder `root`.

    Attributes:
        root: of the export; `upper_body`, `lower_body` and `dresses` lie in it.
        size: (H, W) px of the videos, both even: clips are fitted in, aspect kept, centred on black.
        densepose: whether to write DensePose videos; every sample then needs `densepose`.

    """

    root: str
    size: Size
    densepose: bool

    def prepare(self) -> None:
        """Make the folders. CatV2TON finds ViViD's `agnostic_mask` under a second name, by a link."""
        urls.sweep(self._path(UNFINISHED))
        for subdir in CATEGORIES:
            os.makedirs(self._path(subdir, "agnostic_mask"), exist_ok=True)
            with suppress(FileExistsError):
                os.symlink("agnostic_mask", self._path(subdir, "agnostic_mask_smoothed"))

    def is_written(self, item: Item) -> bool:
        """Whether every file of `item` is there. Each was written whole or not at all."""
        return all(os.path.exists(path) for path in self._files(item).values())

    def write(self, item: Item) -> None:
        """Write the files of one sample.

        Raises:
            DatasetError: the sample is damaged; names shard and key.
            ConfigError: it has no DensePose, and that is asked for.

        """
        stored = StoredSample(read_members(item.entry), str(item.entry))
        if self.densepose and not stored.has("densepose"):
            raise ConfigError(
                "the sample has no DensePose, which both loaders want",
                where=str(item.entry),
                remedy="Build with a stage that gives `densepose` (docs/conditions.md), or say --no-densepose: "
                "CatV2TON trains without it (load_pose=False)",
            )
        content = {**self._videos(stored, item.frames), **self._garment(stored)}
        for kind, path in self._files(item).items():
            urls.write_whole(path, content[kind], unfinished=self._path(UNFINISHED))

    def write_lists(self, split: str, items: Sequence[Item]) -> None:
        """Write the lists that CatV2TON reads, and `SPLIT_samples.jsonl`, which says what each number is."""
        self._write_lines(f"{split}_samples.jsonl", map(_described, items))
        self._write_lines(f"{split}_data.jsonl", map(self._selected, items))
        for subdir in CATEGORIES:
            chosen = [item for item in items if item.subdir == subdir]
            pairs = "".join(f"{item.video} {item.image}\n" for item in chosen)
            urls.write_whole(self._path(subdir, f"{split}_pairs.txt"), pairs.encode())
            if split == "train":
                self._write_lines(f"{subdir}/train_data.jsonl", (_row(i, [[0, i.frames]], i) for i in chosen))
        if split == "test":
            self._write_lines("test_data_180.jsonl", (_row(i, [0, i.frames], i) for i in items))
            unpaired = ((item, other_garment(item, items)) for item in items)
            rows = (_row(item, [0, item.frames], other) for item, other in unpaired if other)
            self._write_lines("test_data_180_unpaired.jsonl", rows)
        with suppress(OSError):  # another export is at work here
            os.rmdir(self._path(UNFINISHED))

    def _path(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def _files(self, item: Item) -> dict[str, str]:
        videos = ["videos", "agnostic", "agnostic_mask", *(["densepose"] if self.densepose else [])]
        names = dict.fromkeys(videos, item.video) | dict.fromkeys(("cloth", "cloth_mask", "images"), item.image)
        return {kind: self._path(item.subdir, kind, name) for kind, name in names.items()}

    def _write_lines(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        urls.write_whole(self._path(name), "".join(json.dumps(row) + "\n" for row in rows).encode())

    def _selected(self, item: Item) -> dict[str, Any]:
        """A line for CatV2TON's `SelectedDataset`."""
        names = {"video": "videos", "densepose": "densepose", "masks": "agnostic_mask"}
        paths = {field: f"{item.subdir}/{folder}/{item.video}" for field, folder in names.items()}
        image = f"{item.subdir}/images/{item.image}"
        return {**paths, "image": image, "category": CATEGORIES[item.subdir], "total_frames": item.frames}

    def _videos(self, stored: StoredSample, frames: int) -> dict[str, bytes]:
        """Videos by folder. The clip's own bytes are kept where it has the size already."""
        annotation: Annotation = stored.artifact("annotation")
        span = stored.meta().span
        shape = (len(annotation.labels), span.height, span.width)
        if len(annotation.labels) != frames:
            raise stored.error(f"the annotation has {len(annotation.labels)} frames, the index {frames}")
        fit = Fit.into(self.size, (span.height, span.width))
        as_stored = fit.source == fit.target
        maps = {"agnostic_mask": stored.maps("agnostic_mask", shape)}
        if self.densepose:
            maps["densepose"] = stored.maps("densepose", shape)
        files = {"agnostic": _Video(self.size, span.fps, crf=PICTURE_CRF)}
        files |= {name: _Video(self.size, span.fps, crf=MAP_CRF) for name in maps}
        if not as_stored:
            files["videos"] = _Video(self.size, span.fps, crf=PICTURE_CRF)
        for start in range(0, frames, _CHUNK):
            chunk = slice(start, min(start + _CHUNK, frames))
            images = stored.images(range(frames)[chunk], total=frames)
            if images.shape[1:3] != shape[1:]:
                raise stored.error(f"the video has frames of {images.shape[1:3]}, its record of {shape[1:]}")
            video, mask = fit.pictures(images), fit.masks(maps["agnostic_mask"][chunk])
            pictures = {"videos": video, "agnostic": draw.agnostic(video, mask), "agnostic_mask": _white(mask)}
            if self.densepose:
                pictures["densepose"] = draw.densepose_picture(fit.maps(maps["densepose"][chunk]))
            for name, file in files.items():
                file.add(pictures[name])
        encoded = {name: file.finish() for name, file in files.items()}
        return {"videos": stored.artifact("video"), **encoded} if as_stored else encoded

    def _garment(self, stored: StoredSample) -> dict[str, bytes]:
        """Garment images by folder: in ViViD's size, and in the videos' own, in which CatV2TON joins the two."""
        image, mask = stored.artifact("garment"), stored.artifact("garment_mask")
        if mask.shape != image.shape[:2]:
            raise stored.error(f"garment_mask has shape {mask.shape}, the garment {image.shape[:2]}")
        cloth, beside = Fit.into(CLOTH_SIZE, mask.shape), Fit.into(self.size, mask.shape)
        return {
            "cloth": _jpeg(cloth.pictures(image[None], fill=255)[0]),
            "cloth_mask": _jpeg(_white(cloth.masks(mask[None]))[0]),
            "images": _jpeg(beside.pictures(image[None], fill=255)[0]),
        }


def other_garment(item: Item, items: Sequence[Item]) -> Item | None:
    """Whose garment `item` wears unpaired: that of the next other pair of its folder, round and round; None: of none.

    Any order would do: ViViD publishes no list, and that of CatV2TON is of its own files.
    """
    pairs = {other.pair_id: other for other in reversed(items) if other.subdir == item.subdir}
    order = sorted(pairs)
    after = order[(order.index(item.pair_id) + 1) % len(order)]
    return pairs[after] if after != item.pair_id else None


def _row(item: Item, front_seqs: list[Any], garment: Item) -> dict[str, Any]:
    """A line of CatV2TON's lists. Ends of `front_seqs` are exclusive."""
    return {
        "video": item.video,
        "image": garment.image,
        "type": "video",
        "front_seqs": front_seqs,
        "subdir": item.subdir,
    }


def _described(item: Item) -> dict[str, Any]:
    actions = [action.model_dump() for action in item.actions]
    return {
        "name": item.name,
        "key": item.entry.key,
        "subdir": item.subdir,
        "frames": item.frames,
        "caption": item.caption,
        "actions": actions,
        "licence": item.licence,
    }


class _Video:
    """An mp4 in the making: H.264 yuv420p at a constant rate, the same bytes every time."""

    def __init__(self, size: Size, fps: Fraction, *, crf: int) -> None:
        height, width = size
        self._encoder = ClipEncoder(width=width, height=height, fps=fps, time_base=1 / Fraction(fps), crf=crf)
        self._frames = 0

    def add(self, images: UInt8) -> None:
        """Take (N, H, W, 3) uint8 RGB or (N, H, W) grey."""
        import av

        for image in images:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.ndim == 3 else "gray")
            picture = frame.reformat(format="yuv420p")
            self._encoder.add(DecodedFrame(index=self._frames, pts=self._frames, picture=picture, bytes=0))
            self._frames += 1

    def finish(self) -> bytes:
        """The file."""
        return self._encoder.finish().video


def _white(mask: np.ndarray) -> UInt8:
    """Bool of any shape → 0 and 255."""
    return mask.astype(np.uint8) * np.uint8(255)


def _jpeg(image: UInt8) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
