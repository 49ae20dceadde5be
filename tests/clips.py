"""Clips for tests: records made from a video file as it is, and where the shared real clips lie."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from media.encode import ENCODER_INSTRUCTIONS
from schemas.clip import Clip, Source, Span
from schemas.manifest import Pair

SAME_BYTES = {"x264-params": f"asm={ENCODER_INSTRUCTIONS}"}
"""Options of libx264 without which equal pictures give other bytes from run to run (media.encode says why)."""
X264 = ("-c:v", "libx264", *(word for name, value in SAME_BYTES.items() for word in (f"-{name}", value)))
"""The same for the ffmpeg binary."""
SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str) -> Path:
    """A file of the shared folder; skips the test where it is absent."""
    file = SHARED / path
    if not file.exists():
        pytest.skip(f"shared/{path} is not beside this checkout")
    return file


def truth() -> dict[str, Any]:
    """Frame labels of the shared clips."""
    return json.loads(shared("clips/clips.json").read_text())


def clip_from(path: Path, *, part: str = "upper", pair_id: str | None = None, garment: str | None = None) -> Clip:
    """A record whose video is the file's own bytes (a plain constant-rate mp4)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pts = [frame.pts for frame in container.decode(video=0)]
        width, height, rate, time_base = stream.width, stream.height, stream.average_rate, stream.time_base
    data = path.read_bytes()
    pair = Pair(pair_id=pair_id or path.stem, video=str(path), garment=garment, part=part)
    source = Source(
        url=str(path), container="mp4", codec="h264", pixel_format="yuv420p", width=width, height=height,
        frame_rate=Fraction(rate), duration=len(pts) / float(rate), size_bytes=len(data),
    )  # fmt: skip
    span = Span(
        first_frame=0, last_frame=len(pts) - 1, first_pts=pts[0], last_pts=pts[-1], time_base=Fraction(time_base),
        fps=Fraction(rate), frames=len(pts), width=width, height=height, bytes=len(data),
    )  # fmt: skip
    return Clip(key=Clip.make_key(pair.pair_id, 0), pair=pair, source=source, span=span, artifacts={"video": data})
