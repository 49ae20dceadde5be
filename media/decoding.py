"""Packets and frames of an open recording, past whatever in it is broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.inputs import Input
from schemas.errors import MediaError

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

DECODER_THREADS = 4

BAD_READS = 100
"""Unreadable packets in a row after which a recording counts as ended."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A frame as the decoder gave it, and the size in bytes of the packet it was made of."""

    frame: VideoFrame
    bytes: int


def packets(recording: Input) -> Iterator[Packet]:
    """Packets of the shown stream in decoding order; the last one is empty and flushes the decoder.

    Raises:
        MediaError: unreadable, where the storage fails. Damaged data is skipped.
    """
    import av

    bad = 0
    while bad < BAD_READS:
        try:
            for packet in recording.container.demux(recording.stream):
                bad = 0
                yield packet
        except av.error.InvalidDataError:
            bad += 1
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"reading failed: {error}", code="unreadable", where=recording.url) from error
        else:
            return


def decode(recording: Input) -> Iterator[Decoded]:
    """Frames of the shown stream in display order; what does not decode is left out.

    Raises:
        MediaError: unreadable.
    """
    recording.stream.codec_context.thread_count = DECODER_THREADS
    recording.stream.codec_context.copy_opaque = True  # carries each packet's size to the frame made of it
    for packet in packets(recording):
        for frame in decode_packet(packet):
            size = frame.opaque.bytes if isinstance(frame.opaque, _Size) else 0
            yield Decoded(frame, size)
    # After damage at the very end there was no flushing packet.


def decode_packet(packet: Packet) -> list[VideoFrame]:
    """Frames that the decoder gives back for `packet`; none where it is damaged."""
    import av

    if packet.size:
        packet.opaque = _Size(packet.size)
    try:
        return packet.decode()
    except av.error.EOFError:  # flushed twice
        return []
    except av.error.FFmpegError:
        return []


@dataclass(slots=True, eq=False)
class _Size:
    """An object of its own for every packet: PyAV tells them apart by identity."""

    bytes: int
