"""The form that every clip has, and the check that a file has it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from media.decoding import decode_packet, packets
from media.inputs import Input
from media.pictures import orientation
from schemas.errors import MediaError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True)
class Layout:
    """What is known of a normalised clip without decoding it."""

    width: int
    height: int
    fps: Fraction
    frames: int


def check_normalised(video: bytes | str | Path) -> Layout:
    """Layout of a video, if it is in the normalised form: H.264 yuv420p in mp4, frame n at n / fps exactly.

    Raises:
        MediaError: unsupported, naming every departure from the form; else as `media.probe`.

    """
    with Input(video) as clip:
        stream = clip.stream
        timestamps: list[int | None] = []
        hidden, first = False, None
        for packet in packets(clip):
            if first is None:
                first = next(iter(decode_packet(clip, packet)), None)
            hidden |= packet.is_discard
            timestamps.append(packet.pts)
        fps = Fraction(stream.average_rate or 0)
        layout = Layout(stream.width, stream.height, fps, len(timestamps))
        faults = _form_faults(clip, first)
        if hidden:
            faults.append("it holds frames that are not shown")
        faults += _timing_faults(timestamps, fps, Fraction(stream.time_base or 0))
    if faults:
        raise MediaError(
            f"this is no normalised clip: {'; '.join(faults)}",
            code="unsupported",
            where=clip.url,
            remedy="Normalise it with `media.normalise`, or read it with the backend 'pyav'",
        )
    return layout


def _form_faults(clip: Input, first: VideoFrame | None) -> list[str]:
    container, codec, form = clip.container.format.name, clip.codec_name, clip.stream.pix_fmt
    faults = []
    if "mp4" not in container:
        faults.append(f"its container is {container}, not mp4")
    if (codec, form) != ("h264", "yuv420p"):
        faults.append(f"it is {codec} {form}, not h264 yuv420p")
    if clip.stream.sample_aspect_ratio not in (None, 0, 1):
        faults.append("its pixels are not square")
    if first is not None and orientation(first):
        faults.append("its pictures are turned")
    return faults


def _timing_faults(timestamps: list[int | None], fps: Fraction, time_base: Fraction) -> list[str]:
    if not timestamps or None in timestamps or not fps or not time_base:
        return ["it has no timestamps"]
    ticks = 1 / (fps * time_base)
    for index, pts in enumerate(sorted(pts for pts in timestamps if pts is not None)):
        if pts != index * ticks:
            return [f"frame {index} is shown at {float(pts * time_base):.4f} s, not at {index} / {float(fps):.3f}"]
    return []
