"""The form that every clip has, and the check that a file has it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from media.decoding import packets
from media.inputs import Input
from schemas.errors import MediaError


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
        stream, container = clip.stream, clip.container
        timestamps, durations, starts_with_key, discards = [], set(), None, False
        for packet in packets(clip):
            starts_with_key = packet.is_keyframe if starts_with_key is None else starts_with_key
            discards |= packet.is_discard
            timestamps.append(packet.pts)
        faults = []
        if "mp4" not in container.format.name:
            faults.append(f"its container is {container.format.name}, not mp4")
        if stream.codec_context.codec.canonical_name != "h264" or stream.codec_context.pix_fmt != "yuv420p":
            faults.append(f"it is {stream.codec_context.codec.canonical_name} {stream.codec_context.pix_fmt}, not h264 yuv420p")
        if stream.sample_aspect_ratio not in (None, 0, 1):
            faults.append("its pixels are not square")
        if not starts_with_key or discards:
            faults.append("it does not start with the frame that is shown first")
        fps = Fraction(stream.average_rate or 0)
        faults += _timing_faults(timestamps, fps, Fraction(stream.time_base or 0))
        layout = Layout(stream.width, stream.height, fps, len(timestamps))
    if faults:
        raise MediaError(
            f"this is no normalised clip: {'; '.join(faults)}",
            code="unsupported",
            where=clip.url,
            remedy="Normalise it with `media.normalise`, or read it with the backend 'pyav'",
        )
    return layout


def _timing_faults(timestamps: list[int | None], fps: Fraction, time_base: Fraction) -> list[str]:
    if not timestamps or None in timestamps or not fps or not time_base:
        return ["it has no timestamps"]
    ticks = 1 / (fps * time_base)
    for index, pts in enumerate(sorted(pts for pts in timestamps if pts is not None)):
        if pts != index * ticks:
            return [f"frame {index} is shown at {float(pts * time_base):.4f} s, not at {index} / {float(fps):.3f}"]
    return []
