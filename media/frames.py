"""Frames of a normalised clip, decoded once per process and shared by the stages that run there."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from media.reader import FrameReader, open_pyav
from schemas.clip import Clip
from schemas.errors import MediaError

CACHE_BYTES = 1024**3
"""Decoded frames kept per process; those asked for last are kept whatever they take."""


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Decoded frames of one clip.

    Attributes:
        images: (N, H, W, 3) uint8 RGB. Read-only: stages share it.
        indices: (N,) int64, which frames of the clip these are.
        scale: pixels of `images` per pixel of the clip, as (x, y).

    """

    images: NDArray[np.uint8]
    indices: NDArray[np.int64]
    scale: tuple[float, float]

    def __len__(self) -> int:
        return len(self.indices)


_cache: OrderedDict[tuple[tuple[str, int, int | None], int], FrameBatch] = OrderedDict()
"""By (key, hash of the bytes, height) of a clip and the step between its frames; the least used comes first."""


def frames(clip: Clip, *, fps: float | None = None, height: int | None = None) -> FrameBatch:
    """Decode `clip`, all frames or about `fps` a second, at its own size or scaled down to `height`.

    Args:
        clip: holds the normalised video in `artifacts["video"]`.
        fps: frames a second wanted; every n-th frame is taken, n = clip's rate / `fps`, rounded. None: all.
        height: pixels; never more than the clip's own. None: the clip's own.

    Raises:
        MediaError: the clip's bytes do not decode to `clip.span.frames` frames.

    """
    height = None if height is None or height >= clip.span.height else height
    step = 1 if fps is None else max(1, round(float(clip.span.fps / Fraction(fps))))
    identity = (clip.key, hash(clip.artifacts["video"]), height)
    for kept_step in (step, *(kept[1] for kept in _cache if kept[0] == identity and step % kept[1] == 0)):
        if (batch := _cache.get((identity, kept_step))) is not None:
            _cache.move_to_end((identity, kept_step))
            return batch if kept_step == step else _every(step // kept_step, batch)
    batch = _decode(clip, step=step, height=height)
    for kept in [kept for kept in _cache if kept[0] == identity and kept[1] % step == 0]:
        del _cache[kept]  # all in the new batch
    _cache[identity, step] = batch
    while len(_cache) > 1 and sum(kept.images.nbytes for kept in _cache.values()) > CACHE_BYTES:
        _cache.popitem(last=False)
    return batch


def forget(clip: Clip) -> None:
    """Drop the cached frames of `clip`."""
    for cached in [cached for cached in _cache if cached[0][0] == clip.key]:
        del _cache[cached]


def _every(step: int, batch: FrameBatch) -> FrameBatch:
    """Every `step`-th frame of a batch, sharing its memory."""
    return FrameBatch(images=batch.images[::step], indices=batch.indices[::step], scale=batch.scale)


def _decode(clip: Clip, *, step: int, height: int | None) -> FrameBatch:
    reader = open_pyav(clip.artifacts["video"])
    if len(reader) != clip.span.frames:
        raise MediaError(
            f"the clip holds {len(reader)} frames, not {clip.span.frames}", code="truncated", where=clip.key
        )
    width, height = reader.width if height is None else _even_width(reader, height), height or reader.height
    indices = np.arange(0, len(reader), step, dtype=np.int64)
    images = np.empty((len(indices), height, width, 3), dtype=np.uint8)
    decoded = 0
    for _, image in reader.images(indices.tolist(), size=(width, height)):
        images[decoded] = image
        decoded += 1
    if decoded != len(indices):
        raise MediaError(f"only {decoded} of {len(indices)} frames decode", code="truncated", where=clip.key)
    images.flags.writeable = False
    return FrameBatch(images=images, indices=indices, scale=(width / clip.span.width, height / clip.span.height))


def _even_width(reader: FrameReader, height: int) -> int:
    return max(2, round(reader.width * height / reader.height / 2) * 2)
