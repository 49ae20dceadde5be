"""Bitrate: whether the recording spent enough bits on the clip."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter


class Bitrate(Filter):
    """Bits of the recording, before anything was re-encoded, as H.264 would have needed them.

    Newer codecs reach the same quality with fewer bits; `efficiency` evens that out, so that one bound serves a
    mixed collection. Its defaults follow published comparisons (HEVC and VP9 save about a third in practice, AV1
    half; MPEG-4 Part 2 and MPEG-2 need about twice as much).
    """

    needs: ClassVar[tuple[str, ...]] = ()
    metrics: ClassVar[dict[str, Metric]] = {
        "bitrate": Metric("video bits a second of the recording, as H.264", "kbit/s", (0, None), (250, None)),
        "bits_per_pixel": Metric(
            "video bits a pixel and frame of the recording, as H.264", "bit", (0, None), (0.02, None)
        ),
    }

    efficiency: dict[str, float] = Field(
        default={"hevc": 1.5, "vp9": 1.5, "av1": 2.0, "vvc": 2.5, "mpeg4": 0.5, "mpeg2video": 0.5, "mjpeg": 0.2},
        description="Codec (FFmpeg's name) → bits that H.264 needs for the quality of one bit of it; 1 if absent.",
    )

    def measure(self, clip: Clip) -> dict[str, float]:
        """Nothing where the recording does not tell its bytes."""
        if clip.span.bytes <= 0:
            return {}
        bits = 8 * clip.span.bytes * self.efficiency.get(clip.source.codec, 1.0)
        pixels = clip.source.width * clip.source.height * (clip.span.last_frame - clip.span.first_frame + 1)
        return {"bitrate": bits / clip.span.seconds / 1000, "bits_per_pixel": bits / pixels}
