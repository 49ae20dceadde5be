"""What carries a garment's mask through a clip: the protocol, and a tracker by optical flow.

Shape legend: T frames of the clip, H×W px of the window looked at; h×w the grid that flow is computed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from media.frames import frames
from preprocess.crops import Box
from schemas.clip import Clip

Mask = NDArray[np.bool_]
Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]

BESIDE = 8
"""Cells of the grid by which a hand's own flow reaches beyond it: the side of the patches that DIS matches."""
AROUND = (15, 45, 135)
"""Cells of the grid that flow under a hand is averaged over: those around a finger, a hand, an arm."""


class Footage(Protocol):
    """A clip made ready for tracking."""

    def track(self, prompts: Mapping[int, Mask]) -> Mask:
        """(T, H, W) bool: what `prompts` (frame → (H, W) bool; one at least) mark, followed both ways from each."""


class Tracker(Protocol):
    """Follows what is marked in some frames of a clip through all of them.

    Attributes:
        lasts: seconds after which it should be prompted anew; infinite where once will do.

    """

    @property
    def lasts(self) -> float: ...

    def watch(self, clip: Clip, window: Box, hidden: Mask) -> Footage:
        """Make `window` of `clip` ready. `hidden` (T, H, W) is what passes in front of what is followed: hands."""


@dataclass(frozen=True)
class FlowTracker:
    """Follows pixels by dense optical flow (DIS: Kroeger et al., ECCV 2016), on the CPU and without weights.

    What is under a hand is taken to move as the garment around the hand does. Between two prompts a frame is reached
    from both, and the nearer one counts more. It drifts within seconds where it is not prompted anew.

    Attributes:
        grid: longer side in cells of the grid that flow is computed on.
        lasts: seconds until its drift shows.

    """

    grid: int = 416
    lasts: float = 0.25

    def watch(self, clip: Clip, window: Box, hidden: Mask) -> FlowFootage:
        """Compute the flow between neighbouring frames, once for however many prompts."""
        import cv2

        x0, y0, x1, y1 = window
        scale = min(1.0, self.grid / max(x1 - x0, y1 - y0))
        size = max(16, round((x1 - x0) * scale)), max(16, round((y1 - y0) * scale))
        small = [
            cv2.resize(cv2.cvtColor(image[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
            for image in frames(clip).images
        ]
        return FlowFootage(
            before=_flow(small[1:], small[:-1], size),
            after=_flow(small[:-1], small[1:], size),
            hidden=np.stack([_resized(mask, size) > 0 for mask in hidden]),
            shape=(y1 - y0, x1 - x0),
        )


def _flow(images: Sequence[NDArray[np.uint8]], others: Sequence[NDArray[np.uint8]], size: tuple[int, int]) -> Float16:
    """(T - 1, h, w, 2): where each cell of `images` is in `others`, less where it is, in cells."""
    import cv2

    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = [
        flow.calc(image, other, np.zeros((*size[::-1], 2), np.float32))
        for image, other in zip(images, others, strict=True)
    ]
    return np.asarray(found, np.float16).reshape(-1, size[1], size[0], 2)


@dataclass(frozen=True, eq=False)
class FlowFootage:
    """Flow of a clip.

    Attributes:
        before: (T - 1, h, w, 2) float16, from the cells of each frame but the first to the frame before it, in cells.
        after: (T - 1, h, w, 2) float16, from those of each frame but the last to the frame after it.
        hidden: (T, h, w) bool, what passes in front.
        shape: H and W.

    """

    before: Float16
    after: Float16
    hidden: Mask
    shape: tuple[int, int]

    def track(self, prompts: Mapping[int, Mask]) -> Mask:
        """(T, H, W) bool: what `prompts` mark, followed both ways from each as far as the next."""
        import cv2

        length, *grid = self.hidden.shape
        known = sorted(prompts)
        seen, weights = np.zeros((length, *grid), np.float32), np.zeros(length, np.float32)
        for at, start in enumerate(known):
            mask = _completed(_resized(prompts[start], (grid[1], grid[0])), self.hidden[start])
            seen[start], weights[start] = mask, 1
            for step, neighbours in ((1, known[at + 1 : at + 2]), (-1, known[:at][-1:])):
                end = neighbours[0] if neighbours else (length if step == 1 else -1)
                for frame, carried in self._carried(mask, start, end, step):
                    weight = abs(end - frame) / abs(end - start) if neighbours else 1.0
                    seen[frame] += weight * carried
                    weights[frame] += weight
        likely = seen / weights[:, None, None]
        return np.stack([cv2.resize(one, self.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5 for one in likely])

    def _carried(self, mask: Float32, start: int, end: int, step: int) -> Iterator[tuple[int, Float32]]:
        """`mask` (h, w) of frame `start` in each frame after it short of `end`.

        It is sampled but once for each, along the whole path: it does not blur.
        """
        columns, rows = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in mask.shape[::-1]))
        from_x, from_y, now = columns, rows, mask
        for frame in range(start + step, end, step):
            flow = self.before[frame - 1] if step == 1 else self.after[frame]
            flow = _flow_behind(self.hidden[frame], flow.astype(np.float32), now)
            x, y = columns + flow[..., 0], rows + flow[..., 1]
            from_x, from_y = _sampled(from_x, x, y), _sampled(from_y, x, y)
            now = _sampled(mask, from_x, from_y)
            yield frame, now


def _sampled(values: Float32, x: Float32, y: Float32) -> Float32:
    import cv2

    return np.asarray(cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _flow_behind(hidden: Mask, flow: Float32, mask: Float32) -> Float32:
    """(h, w, 2): `flow`, behind what is `hidden` that of what `mask` marks around it."""
    import cv2

    near = cv2.dilate(hidden.view(np.uint8), np.ones((2 * BESIDE + 1, 2 * BESIDE + 1), np.uint8))
    x, y, width, height = cv2.boundingRect(near)
    if not width:
        return flow
    room = AROUND[-1] // 2
    part = np.s_[max(0, y - room) : y + height + room, max(0, x - room) : x + width + room]
    trusted = (mask[part] + np.float32(1e-3)) * (near[part] == 0)
    filled = flow.copy()
    filled[part] = np.where(near[part][..., None] > 0, _mean_around(flow[part], trusted), flow[part])
    return filled


def _completed(mask: Float32, hidden: Mask) -> Float32:
    """(h, w): `mask`, what is `hidden` as most of what is around it."""
    around = _mean_around(mask[..., None], (~hidden).astype(np.float32))[..., 0]
    return np.where(hidden, around > 0.5, mask).astype(np.float32)


def _mean_around(values: Float32, weight: Float32) -> Float32:
    """(h, w, C) means of `values` under `weight` (h, w), over the least square of `AROUND` that holds some of it."""
    import cv2

    means = np.zeros_like(values)
    for side in reversed(AROUND):
        much = cv2.blur(weight, (side, side))
        mean = cv2.blur(values * weight[..., None], (side, side)).reshape(values.shape)
        enough = much > 0.05
        means[enough] = mean[enough] / much[enough][:, None]
    return means


def _resized(mask: Mask, size: tuple[int, int]) -> Float32:
    import cv2

    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
