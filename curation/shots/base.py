"""What a shot detector is: pictures in, in display order; what each frame is, out, a little later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

FLAT_CONTRAST = 4.0
"""Standard deviation of luma, 0..127.5, below which a picture shows nothing: the bottom of a fade."""


@dataclass(frozen=True, slots=True)
class FrameScore:
    """What a detector says of one frame.

    Attributes:
        cut: the frame is the last one of its shot.
        transition: the frame is part of a gradual transition (dissolve, fade, wipe), or shows nothing at all.
        score: evidence for a cut, 0..1. A detector that only decides gives 0 or 1.
    """

    cut: bool
    transition: bool
    score: float

    @property
    def boundary(self) -> bool:
        """Whether the frame is anything but a plain frame of a shot."""
        return self.cut or self.transition


class ShotDetector(Protocol):
    """Scores a stream of frames in constant memory. One detector serves one recording."""

    def push(self, picture: VideoFrame) -> list[FrameScore]:
        """Take the next picture; return the scores that became final, in display order, none twice."""
        ...

    def flush(self) -> list[FrameScore]:
        """End the stream; return the scores still owed, so that every picture has got one."""
        ...
