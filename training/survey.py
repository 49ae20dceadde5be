"""What a dataset's index says of its clips before any is read: bucket, odds of windows, garments to swap."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.artifacts import artifact
from schemas.errors import DatasetError
from training.data_settings import DataSettings
from training.fit import Size
from training.plan import Bucket
from training.shards import ShardIndex, read_index
from training.window_settings import WindowSettings
from training.windows import Float64, Tilt, interactive_shares, offsets, tilt_for

_log = logging.getLogger(__name__)
_COLUMNS = ("frames", "fps", "width", "height", "actions", "part", "members")
_TOLERANCE = 0.005
"""By which the share of interactive frames may miss what was asked for before that is told."""


class GarmentSwaps:
    """Which samples show other garments for the same part. Garments are one where their images have the same bytes.

    Args:
        parts: where the garment of each row is worn.
        garments: the hash of its image.

    """

    def __init__(self, parts: Sequence[str], garments: Sequence[str]) -> None:
        firsts: dict[str, dict[str, int]] = {}
        """Part → garment → the first row that shows it."""
        for row, (part, garment) in enumerate(zip(parts, garments, strict=True)):
            firsts.setdefault(part, {}).setdefault(garment, row)
        self._part_of = np.array([list(firsts).index(part) for part in parts], dtype=np.int16)
        self._rows = [np.array(list(rows.values())) for rows in firsts.values()]
        places = {part: {garment: place for place, garment in enumerate(rows)} for part, rows in firsts.items()}
        self._own = np.array([places[part][garment] for part, garment in zip(parts, garments, strict=True)])

    def other(self, row: int, quantile: float) -> int | None:
        """A row with another garment for the same part as `row`, at `quantile` in 0..1 of them; None: there is none."""
        rows = self._rows[self._part_of[row]]
        if len(rows) < 2:
            return None
        place = min(int(quantile * (len(rows) - 1)), len(rows) - 2)
        return int(rows[place + (place >= self._own[row])])


@dataclass(frozen=True, eq=False)
class Survey:
    """The clips of a split that are trained on.

    Attributes:
        index: where every clip of the split lies.
        buckets: that hold clips.
        bucket_of: (rows,) int64, place of each clip's bucket in `buckets`; -1 of clips that are left out.
        tilt: how windows are drawn.
        swaps: other garments for each row.
        version: hash of what the index says of all that is read: another build of the dataset has another one.

    """

    index: ShardIndex
    buckets: list[Bucket]
    bucket_of: NDArray[np.int64]
    tilt: Tilt
    swaps: GarmentSwaps
    version: str


def survey(settings: DataSettings) -> Survey:
    """Read the index of `settings.dataset`, and tell by a log line what is left out or cannot be reached.

    Raises:
        DatasetError: the dataset is not there or damaged, or none of its clips is long enough.

    """
    sidecar = "latents" if settings.latents else None
    index = read_index(settings.dataset, split=settings.split, columns=_COLUMNS, sidecar=sidecar)
    rows: dict[str, list[Any]] = {name: index.table[name].to_pylist() for name in _COLUMNS}
    windows = [
        offsets(frames, frames=settings.frames, speed=speed_of(fps, settings))
        for frames, fps in zip(rows["frames"], rows["fps"], strict=True)
    ]
    buckets = [
        Bucket(len(window), *nearest_size(settings.buckets, (height, width)))
        for window, height, width in zip(windows, rows["height"], rows["width"], strict=True)
    ]
    kept = [row for row, window in enumerate(windows) if len(window) >= settings.min_frames]
    if len(kept) < len(windows):
        _log.warning(
            "%d of %d clips are left out: they have fewer than %d frames", len(windows) - len(kept), len(windows),
            settings.min_frames,
        )  # fmt: skip
    if not kept:
        raise DatasetError(
            f"no clip of split {settings.split!r} has {settings.min_frames} frames",
            where=settings.dataset,
            remedy="Lower `min_frames`, or raise `fps`",
        )
    used = sorted({buckets[row] for row in kept}, reverse=True)
    bucket_of = np.full(len(windows), -1, dtype=np.int64)
    bucket_of[kept] = [used.index(buckets[row]) for row in kept]
    counts = Counter(buckets[row] for row in kept)
    _log.info("clips by bucket: %s", "; ".join(f"{b.frames}×{b.height}×{b.width}: {counts[b]}" for b in used))
    shares = [interactive_shares(_labels(rows["actions"][row], rows["frames"][row]), windows[row]) for row in kept]
    return Survey(
        index=ShardIndex(index.table.select(["key", "shard", "start", "stop"])),
        buckets=used,
        bucket_of=bucket_of,
        tilt=_tilt(settings.interactive_share, shares, [len(windows[row]) for row in kept]),
        swaps=_swaps(settings, rows),
        version=_version(rows["members"], index.table[sidecar].to_pylist() if sidecar else ()),
    )


def speed_of(fps: float, settings: WindowSettings) -> float:
    """Stored frames, `fps` a second, to a frame of a window."""
    return 1.0 if settings.fps is None else fps / settings.fps


def nearest_size(sizes: Sequence[Size], size: Size) -> Size:
    """The one of `sizes` whose aspect is nearest to that of `size`, by ratio; of equal ones the first."""
    aspect = math.log(size[0] / size[1])
    return min(sizes, key=lambda each: abs(math.log(each[0] / each[1]) - aspect))


def _labels(actions: Sequence[dict[str, Any]], frames: int) -> NDArray[np.bool_]:
    labels = np.zeros(frames, dtype=bool)
    for action in actions:
        labels[action["start_frame"] : action["end_frame"] + 1] = True
    return labels


def _tilt(target: float | None, shares: Sequence[Float64], lengths: Sequence[int]) -> Tilt:
    tilt = tilt_for(target, shares, lengths)
    if target is not None and abs(tilt.share - target) > _TOLERANCE:
        _log.warning(
            "`interactive_share` is %.3f, but the windows of this dataset give %.3f at best", target, tilt.share
        )
    else:
        _log.info("%.3f of the frames of an epoch are interactive", tilt.share)
    return tilt


def _version(members: Sequence[Sequence[dict[str, Any]]], beside: Sequence[dict[str, Any]]) -> str:
    hashed = hashlib.sha256()
    for each in (*members, beside):
        hashed.update("".join(member["sha256"] for member in each).encode())
    return hashed.hexdigest()


def _swaps(settings: DataSettings, rows: dict[str, list[Any]]) -> GarmentSwaps:
    image = artifact("garment").member
    hashes = [next((each["sha256"] for each in members if each["name"] == image), "") for members in rows["members"]]
    swaps = GarmentSwaps(rows["part"], hashes)
    alone = sum(swaps.other(row, 0) is None for row in range(len(hashes)))
    if settings.unpaired_share and alone:
        _log.warning("%d of %d clips stay paired: no other garment for their part is there", alone, len(hashes))
    return swaps
