"""Passes over the part of a recording before `start` without decoding it, and still counts its frames exactly."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from media.decoding import packets
from media.inputs import Input

if TYPE_CHECKING:
    from av.packet import Packet

ONE_FRAME_A_PACKET = {"h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "prores", "ffv1"}
"""Codecs whose packets, as mp4 and Matroska store them, show one frame each (VP8 has hidden frames)."""

MOST_BYTES = 256 * 1024**2
"""Most that is held of one group of pictures; recordings with longer ones are decoded from their start."""

_NEIGHBOURS = 64  # packets within which a doubled timestamp is noticed


@dataclass(frozen=True)
class Resumption:
    """Where decoding can begin.

    Attributes:
        origin: timestamp of the recording's first frame.
        first_pts: timestamp of the key frame decoding begins with; frames before it come out broken.
        first_index: how many frames are shown before that.
        packets: the rest of the recording, from that key frame on.

    """

    origin: int
    first_pts: int
    first_index: int
    packets: Iterator[Packet]


def skip_to(recording: Input, start: int) -> Resumption | None:
    """Read on to the last key frame shown at most `start` after the first frame, in the stream's time base.

    Returns:
        None where frames cannot be counted by their packets: no timestamps, doubled ones, damage, other codecs.

    """
    indexed = recording.container.format.name.startswith(("mov", "matroska"))
    if not indexed or recording.codec_name not in ONE_FRAME_A_PACKET:
        return None
    group: list[Packet] = []
    recent: deque[int] = deque(maxlen=_NEIGHBOURS)
    shown = shown_before_group = held_bytes = 0
    origin: int | None = None
    rest = packets(recording)
    for packet in rest:
        if packet.pts is None or packet.dts is None or packet.is_corrupt or packet.pts in recent:
            return None
        recent.append(packet.pts)
        if not packet.is_discard:
            origin = packet.pts if origin is None else min(origin, packet.pts)
        if packet.is_keyframe and (origin is None or packet.pts <= origin + start):
            group, shown_before_group, held_bytes = [], shown, 0
        group.append(packet)
        held_bytes += packet.size
        shown += not packet.is_discard
        if not group[0].is_keyframe or held_bytes > MOST_BYTES:
            return None
        if origin is not None and packet.dts > origin + start:
            break
    if origin is None:
        return None
    first_pts = group[0].pts or 0
    # Pictures that follow the key frame in the file but are shown before it (open groups) count as before it.
    leading = sum((packet.pts or 0) < first_pts and not packet.is_discard for packet in group)
    return Resumption(origin, first_pts, shown_before_group + leading, chain(group, rest))
