"""Packets and frames of an open recording, past whatever in it is broken."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.inputs import Input
from schemas.errors import MediaError, OutageError

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
    """Packets of the shown stream, in decoding order.

    Raises:
        MediaError: unreadable, where the storage fails; stalled. Damaged data is skipped.

    """
    import av

    bad = 0
    recording.watch.progress()
    while bad < BAD_READS:
        try:
            for packet in recording.container.demux(recording.stream):
                bad = 0
                if packet.size:  # the empty one at the end would flush the decoder; damaged files lack it
                    yield packet
                recording.watch.progress()  # now, so that the time between two calls does not count
        except (MediaError, OutageError):
            raise
        except IndexError:  # PyAV 18, when all is read and streams have appeared on the way (sound that set in late)
            return
        except av.error.FFmpegError:  # damaged data; what the storage raises is no FFmpegError
            bad += 1
        except Exception as error:  # every file system has error types of its own
            raise MediaError(f"reading failed: {error}", code="unreadable", where=recording.url) from error
        else:
            return


def decode(recording: Input, source: Iterable[Packet] | None = None) -> Iterator[Decoded]:
    """Frames of the shown stream in display order; what does not decode is left out.

    Args:
        recording: an open recording.
        source: packets of it, from a key frame on; None: all that are left to read.

    Raises:
        MediaError: unreadable, stalled.

    """
    recording.stream.codec_context.thread_count = DECODER_THREADS
    sizes = _Sizes()
    barren = 0
    for packet in packets(recording) if source is None else source:
        sizes.note(packet)
        barren += 1
        for frame in decode_packet(recording, packet):
            barren = 0
            yield Decoded(frame, sizes.of(frame))
        if barren > recording.limits.max_stalled_packets:
            raise recording.watch.stalled(f"{barren:,} packets in a row were read", "max_stalled_packets")
    for frame in decode_packet(recording, None):
        yield Decoded(frame, sizes.of(frame))


def decode_packet(recording: Input, packet: Packet | None) -> list[VideoFrame]:
    """Frames that the decoder gives back for `packet`, none where it is damaged; None: those it still holds."""
    import av

    try:
        return recording.stream.decode(packet)
    except av.error.FFmpegError:
        return []


class _Sizes:
    """Sizes of packets, found again by timestamp; where that is missing or doubled, the mean size.

    (FFmpeg's `copy_opaque` would carry the size along, but PyAV frees what it carries under the interpreter's lock
    from the decoder's threads, which hangs when a decoder is closed.)
    """

    REMEMBERED = 256

    def __init__(self) -> None:
        self._by_pts: OrderedDict[int | None, int] = OrderedDict()
        self._packets = self._bytes = 0

    def note(self, packet: Packet) -> None:
        self._packets += 1
        self._bytes += packet.size
        self._by_pts[packet.pts] = packet.size
        if len(self._by_pts) > self.REMEMBERED:
            self._by_pts.popitem(last=False)

    def of(self, frame: VideoFrame) -> int:
        mean = self._bytes // max(1, self._packets)
        return mean if frame.pts is None else self._by_pts.pop(frame.pts, mean)
