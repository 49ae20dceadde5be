"""What a recording is, found out from its first seconds."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from media.decoding import decode_packet, packets
from media.inputs import Input
from media.pictures import is_hdr, shown_size
from schemas.clip import Source
from schemas.errors import MediaError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SAMPLED_PACKETS = 300
HOPELESS_PACKETS = 3000
"""Packets without a single frame after which a recording counts as undecodable."""
REORDERED = 16
"""H.264 and HEVC show a frame at most this many after its place in decoding order."""

_SLOWEST, _FASTEST = Fraction(1, 2), 240  # frames a second; beyond, the container is guessing
_FALLBACK_RATE = Fraction(25)


def probe(url: str | Path) -> Source:
    """What the recording at `url` is, from its container and its first 300 packets.

    Args:
        url: path or fsspec URL.

    Raises:
        MediaError: missing, empty, not_media, no_video, undecodable, truncated, unreadable.

    """
    with Input(url) as recording:
        return probe_input(recording)


def describe(source: Source) -> list[tuple[str, str]]:
    """Rows (field, value) that tell a person what a recording is, and what will be done to it."""
    rate = f"{float(source.frame_rate):.3f} frames/s, {'variable' if source.variable_rate else 'constant'}"
    length = "unknown" if source.duration is None else f"{source.duration:.2f} s"
    size = "unknown" if source.size_bytes is None else f"{source.size_bytes / 1e6:.1f} MB"
    rows = [
        ("url", source.url),
        ("container", source.container),
        ("codec", f"{source.codec}, {source.pixel_format}"),
        ("size as shown", f"{source.width}×{source.height}"),
        ("frame rate", rate),
        ("duration", length),
        ("file size", size),
    ]
    if source.duration and source.size_bytes:
        rows.append(("bit rate", f"{source.size_bytes * 8 / source.duration / 1000:.0f} kbit/s, all streams"))
    advice = [
        words
        for applies, words in (
            (source.variable_rate, "brought to a constant rate"),
            (source.interlaced, "deinterlaced (bwdif)"),
            (source.hdr, "HDR brought to SDR BT.709, reference white to white"),
            (source.width % 2 or source.height % 2, "brought to an even size"),
        )
        if applies
    ]
    return [*rows, ("on ingest", "; ".join(advice) or "nothing to change but the encoding")]


def probe_input(recording: Input) -> Source:
    """As `probe`, of an input at its start; it is read from."""
    frame, timestamps = _sample(recording)
    stream = recording.stream
    width, height = shown_size(frame, stream.sample_aspect_ratio)
    time_base = Fraction(stream.time_base or Fraction(1, 90000))
    intervals = [Fraction(b - a) * time_base for a, b in itertools.pairwise(timestamps) if b > a]
    field_order = int(stream.codec_context.field_order)
    return Source(
        url=recording.url,
        container=_container_name(recording),
        codec=recording.codec_name,
        pixel_format=frame.format.name,
        width=width,
        height=height,
        frame_rate=_frame_rate(stream, intervals),
        duration=_duration(recording),
        size_bytes=recording.size_bytes,
        variable_rate=_varies(intervals, tick=time_base),
        interlaced=frame.interlaced_frame or field_order > 1,
        hdr=is_hdr(frame),
    )


def _sample(recording: Input) -> tuple[VideoFrame, list[int]]:
    """The first frame that decodes, and the first timestamps in display order."""
    frame: VideoFrame | None = None
    timestamps: list[int] = []
    ended = True
    for number, packet in enumerate(packets(recording)):
        if frame is None:
            frame = next(iter(decode_packet(recording, packet)), None)
        if packet.pts is not None and not packet.is_discard:
            timestamps.append(packet.pts)
        if number >= (HOPELESS_PACKETS if frame is None else SAMPLED_PACKETS):
            ended = False
            break
    if frame is None and ended:
        frame = next(iter(decode_packet(recording, None)), None)
    if frame is None:
        raise MediaError(
            f"no frame of its {recording.stream.codec_context.name} stream decodes",
            code="undecodable",
            where=recording.url,
            remedy="Fetch or record it again",
        )
    timestamps.sort()
    return frame, timestamps if ended else timestamps[:-REORDERED]


def _frame_rate(stream: VideoStream, intervals: list[Fraction]) -> Fraction:
    usual = 1 / median(intervals) if intervals else None
    for rate in (stream.average_rate, usual, stream.guessed_rate):
        if rate and _SLOWEST <= rate <= _FASTEST:
            return Fraction(rate)
    return _FALLBACK_RATE


def _varies(intervals: list[Fraction], *, tick: Fraction) -> bool:
    """Whether more than a few intervals are not the usual one, beyond what rounded timestamps explain."""
    if len(intervals) < 3:
        return False
    usual = median(intervals)
    allowed = max(usual / 5, Fraction(3, 2000), tick)
    return sum(abs(interval - usual) > allowed for interval in intervals) > max(1, len(intervals) // 50)


def _duration(recording: Input) -> float | None:
    stream, container = recording.stream, recording.container
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if not container.duration:
        return None
    # Matroska stores the time of the end, the others how long it is.
    before = container.start_time or 0 if container.format.name.startswith("matroska") else 0
    return (container.duration - before) / 1e6


def _container_name(recording: Input) -> str:
    """FFmpeg names all that a demuxer reads, e.g. "mov,mp4,m4a"; the file's own suffix says which it is."""
    names = recording.container.format.name.split(",")
    suffix = recording.url.rsplit(".", 1)[-1].lower()
    return suffix if suffix in names else names[0]
