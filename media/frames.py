"""Frames of a normalised clip, decoded once per process and shared by the stages that run there."""

from __future__ import annotations

import io
from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from schemas.clip import Clip
from schemas.errors import MediaError

CACHE_BYTES = 2 * 1024**3
"""Decoded frames kept per process; the clip in hand is kept whatever it takes."""


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


_cache: OrderedDict[tuple[object, ...], FrameBatch] = OrderedDict()


def frames(clip: Clip, *, fps: float | None = None, height: int | None = None) -> FrameBatch:
    """Decode `clip`, all frames or about `fps` a second, at its own size or scaled down to `height`.

    Raises:
        MediaError: the clip's bytes do not decode to `clip.span.frames` frames.
    """
    height = None if height is None or height >= clip.span.height else height
    step = 1 if fps is None else max(1, round(float(clip.span.fps / Fraction(fps))))
    cache_key = (clip.key, len(clip.artifacts["video"]), step, height)
    if cache_key in _cache:
        _cache.move_to_end(cache_key)
        return _cache[cache_key]
    batch = _decode(clip, step=step, height=height)
    _cache[cache_key] = batch
    while len(_cache) > 1 and sum(kept.images.nbytes for kept in _cache.values()) > CACHE_BYTES:
        _cache.popitem(last=False)
    return batch


def forget(clip: Clip) -> None:
    """Drop the cached frames of `clip`."""
    for cache_key in [cache_key for cache_key in _cache if cache_key[0] == clip.key]:
        del _cache[cache_key]


def _decode(clip: Clip, *, step: int, height: int | None) -> FrameBatch:
    import av

    width = None if height is None else max(2, round(clip.span.width * height / clip.span.height / 2) * 2)
    images = []
    with av.open(io.BytesIO(clip.artifacts["video"])) as container:
        container.streams.video[0].thread_type = "AUTO"
        for index, frame in enumerate(container.decode(video=0)):
            if index % step == 0:
                images.append(frame.to_ndarray(format="rgb24", width=width, height=height))
    if index + 1 != clip.span.frames:
        raise MediaError(f"the clip decodes to {index + 1} frames, not {clip.span.frames}", code="truncated", where=clip.key)
    stacked = np.stack(images)
    stacked.flags.writeable = False
    return FrameBatch(
        images=stacked,
        indices=np.arange(0, index + 1, step, dtype=np.int64),
        scale=(stacked.shape[2] / clip.span.width, stacked.shape[1] / clip.span.height),
    )
