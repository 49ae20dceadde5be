"""Shot boundaries by PySceneDetect's AdaptiveDetector (https://www.scenedetect.com) over a stream of frames."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from curation.shots.base import FLAT_CONTRAST, FrameScore

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

EFFECTIVE_WIDTH = 256
"""Pictures are compared at about this width, as PySceneDetect's own automatic downscale does."""


class PySceneDetector:
    """Scores frames by how much colour and light change, against the frames around them.

    It finds hard cuts. Of gradual transitions it sees only frames that show nothing at all.

    Args:
        threshold: from which ratio of a frame's change to its neighbours' on a shot begins.
    """

    def __init__(self, *, threshold: float = 3.0) -> None:
        from av.video.reformatter import VideoReformatter
        from scenedetect.detectors import AdaptiveDetector

        self._detector = AdaptiveDetector(adaptive_threshold=threshold, min_scene_len=0)
        self._reformatter = VideoReformatter()
        self._flat: deque[bool] = deque()  # of the frames whose scores are not out
        self._pushed = 0
        self._first_unscored = 0

    def push(self, picture: VideoFrame) -> list[FrameScore]:
        """See `ShotDetector`."""
        from scenedetect import FrameTimecode

        scale = min(1.0, EFFECTIVE_WIDTH / picture.width)
        small = self._reformatter.reformat(
            picture,
            width=round(picture.width * scale),
            height=max(1, round(picture.height * scale)),
            format="bgr24",
            interpolation="BILINEAR",
        ).to_ndarray()
        self._flat.append(bool(small.mean(axis=2).std() < FLAT_CONTRAST))
        # The detector counts frames only, so any frame rate does.
        starts = self._detector.process_frame(FrameTimecode(self._pushed, fps=25.0), small)
        self._pushed += 1
        # A frame is the last of its shot if the next one starts a shot, which is known `event_buffer_length` later.
        known = self._pushed - 1 - self._detector.event_buffer_length
        return self._scores(known, cut=any(start.frame_num == known for start in starts))

    def flush(self) -> list[FrameScore]:
        """See `ShotDetector`."""
        return self._scores(self._pushed, cut=False)

    def _scores(self, up_to: int, *, cut: bool) -> list[FrameScore]:
        """Scores of the frames before `up_to`; `cut`: a shot starts there."""
        scores = []
        while self._first_unscored < up_to:
            self._first_unscored += 1
            is_cut = cut and self._first_unscored == up_to
            scores.append(FrameScore(is_cut, self._flat.popleft(), float(is_cut)))
        return scores
