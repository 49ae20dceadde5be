"""Captures one live stream: connects, connects again, and says what was lost in between."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from curation.live.ffmpeg import Connection, Packet, cut, looks_like_hls, measure
from curation.live.tail import Overlap, Tail
from schemas.config import LiveConfig
from schemas.errors import MediaError

FIRST_BACKOFF = 0.5
JUMP = 1.0
"""Seconds by which the stream's clock may run ahead of its pictures before something counts as lost."""
UNREADABLE_SECONDS = 2.0
"""Video that came and of which nothing can be read, after which the stream is of a kind that cannot be captured."""
_TICK = 0.2
RESTARTED = "Media sequence changed"


class Ending(StrEnum):
    """Why a capture is at its end: the stream is complete, a limit was reached, nothing came any more, or it failed."""

    STREAM = "stream"
    SECONDS = "seconds"
    SIZE = "size"
    SILENCE = "silence"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A closed piece of the stream.

    Attributes:
        began: when its first packet came.
        ended: when its last packet came.
        at_seconds: seconds of the stream that were captured before it.
        seconds: its length.
        bytes: size of its file.

    """

    began: datetime
    ended: datetime
    at_seconds: float
    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A part of the stream that is lost.

    Attributes:
        began: when the last packet before it came.
        ended: when the first packet after it came.
        at_seconds: seconds of the stream that were captured before it.
        seconds: how much is lost: by the stream's own clock where that jumps, else by ours.
        cause: in words.

    """

    began: datetime
    ended: datetime
    at_seconds: float
    seconds: float
    cause: str


@dataclass(frozen=True)
class Closed:
    """A segment and its file, which is the receiver's from now on."""

    segment: Segment
    file: Path


@dataclass(frozen=True)
class End:
    """The last that a capture says: why it ended, and the last trouble that FFmpeg told of, "" if there was none."""

    ending: Ending
    trouble: str


@dataclass(frozen=True, kw_only=True)
class Before:
    """What is captured of a stream already.

    Attributes:
        segments: number of segments.
        seconds: length of all of them.
        bytes: their size.
        ended: end of the last one, None if there is none.
        tail: hashes of the last packets, oldest first.

    """

    segments: int = 0
    seconds: float = 0.0
    bytes: int = 0
    ended: datetime | None = None
    tail: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Arrival:
    packet: Packet
    wall: datetime
    at_seconds: float
    new: bool


class _Reception:
    """What came over one connection and lies in no closed file yet."""

    def __init__(self, connection: Connection, tail: Tail) -> None:
        self.connection = connection
        self.overlap = Overlap(tail)
        self.arrivals: deque[_Arrival] = deque()
        self.previous: Packet | None = None
        self.came_at = self.began_at = time.monotonic()

    def lost_before(self, packet: Packet) -> float:
        """Seconds by which the stream's clock jumps ahead at `packet`; 0 if it does not."""
        if self.previous is None:
            return 0.0
        jump = packet.dts - self.previous.dts - self.previous.duration
        return jump if jump > JUMP else 0.0

    def length_of(self, packet: Packet) -> float:
        """Seconds that `packet` adds to the stream."""
        passed = packet.dts - self.previous.dts if self.previous else 0.0
        return packet.duration or min(max(passed, 0.0), JUMP)


class Capture:
    """Captures the stream at `address`.

    Args:
        address: http(s) or rtmp(s).
        folder: where files are written; all that lies in it is the capture's. What a killed capture left is taken up.
        config: lengths and times.
        max_seconds: stop when so much is captured, in seconds of stream; None: no limit.
        max_bytes: stop when so much is captured; None: no limit.
        before: what is captured already.
        environment: of the ffmpeg process.
        stop: set it to end the capture with its last segment closed.

    Attributes:
        tail: the packets that were captured last.
        connections: how often it connected.
        trouble: the last thing that FFmpeg warned of.

    """

    def __init__(
        self,
        address: str,
        *,
        folder: Path,
        config: LiveConfig,
        max_seconds: float | None,
        max_bytes: float | None,
        before: Before,
        environment: Mapping[str, str],
        stop: threading.Event,
    ) -> None:
        self._address, self._folder, self._config, self._stop = address, folder, config, stop
        self._max_seconds, self._max_bytes = max_seconds or float("inf"), max_bytes or float("inf")
        self._environment = environment
        self._hls = looks_like_hls(address)
        self._segments, self._seconds, self._bytes = before.segments, before.seconds, before.bytes
        self._last_wall, self._lost_because = before.ended, "nothing was running that captured it"
        self._new_at = 0.0
        self.tail = Tail(before.tail, at_seconds=before.seconds)
        self.connections, self.trouble = 0, ""

    def run(self) -> Iterator[Closed | Gap | End]:
        """Capture until the stream ends, a limit is reached, nothing comes any more, or `stop` is set.

        The receiver should not take minutes over one item: until it asks for the next, ffmpeg has to hold its words.
        """
        yield from self._take_up()
        self._new_at = time.monotonic()
        pause, ending = FIRST_BACKOFF, self._limit_reached()
        while ending is None and not self._stop.is_set():
            before = self._seconds
            complete = yield from self._connect()
            ending = Ending.STREAM if complete else self._limit_reached()
            if ending is None and time.monotonic() - self._new_at > self._config.give_up_seconds:
                ending = Ending.SILENCE
            if ending is None:
                pause = FIRST_BACKOFF if self._seconds > before else 2 * pause
                self._stop.wait(min(pause, self._config.backoff_seconds) * random.uniform(0.7, 1.0))
        if ending is not None:
            yield End(ending, self.trouble)

    def _limit_reached(self) -> Ending | None:
        if self._seconds >= self._max_seconds:
            return Ending.SECONDS
        return Ending.SIZE if self._bytes >= self._max_bytes else None

    def _take_up(self) -> Iterator[Closed]:
        """Segments of a capture that was killed: those it closed and nobody stored, then the files it was writing."""
        closed = sorted(self._folder.glob("segment-*.ts"))
        stored = [file for file in closed if int(file.stem.removeprefix("segment-")) < self._segments]
        for file in [*closed[len(stored) :], *sorted(self._folder.glob("connection-*.ts"))]:
            if packets := measure(file):
                ended = datetime.fromtimestamp(file.stat().st_mtime, UTC)
                began, at_seconds = ended - timedelta(seconds=_length(packets)), self._seconds
                for packet in packets:
                    self._count(packet, packet.duration)
                self._last_wall = ended
                yield self._closed(file, packets, began=began, ended=ended, at_seconds=at_seconds)
        for file in self._folder.iterdir():
            file.unlink()

    def _connect(self) -> Generator[Closed | Gap, None, bool]:
        """Take in one connection. Returns whether the stream is complete with it."""
        self.connections += 1
        connection = Connection(
            self._address,
            folder=self._folder,
            name=f"connection-{self.connections:06d}",
            segment_seconds=self._config.segment_seconds,
            hls=self._hls,
            environment=self._environment,
        )
        reception = _Reception(connection, self.tail)
        try:
            while not (why := self._why_part(reception)) and connection.running:
                yield from self._take(reception, connection.read(_TICK))
                yield from self._files(reception, connection.closed())
        finally:
            last = connection.stop()
        yield from self._take(reception, last)
        yield from self._files(reception, connection.files(), last=True)
        self.trouble = connection.trouble or self.trouble
        if "Option" in connection.trouble:  # of another kind than its name says
            self._hls = False
        elif connection.format == "hls":
            self._hls = True
        self._lost_because = why or connection.trouble or "the connection ended"
        if why or not (connection.complete and connection.succeeded):
            return False
        if not reception.overlap.over:  # read in vain for the last packet: look for the last one that it has
            self.tail.last = reception.overlap.known
            self._lost_because = "the stream went on before it was connected to again"
        return reception.overlap.over

    def _why_part(self, reception: _Reception) -> str:
        """Why this connection is of no use any more; "" if it is."""
        connection, stall, now = reception.connection, self._config.stall_seconds, time.monotonic()
        if self._stop.is_set():
            return "the capture was stopped"
        if self._limit_reached():
            return "the limit is reached"
        if connection.skipped.startswith(RESTARTED):
            return f"the playlist began anew: {connection.skipped}"
        if now - reception.came_at > stall:
            return f"nothing came for {stall:g} s" + (f" ({connection.trouble})" if connection.trouble else "")
        if now - max(self._new_at, reception.began_at) > stall and not connection.complete:
            return f"for {stall:g} s nothing came that was not captured before"
        return ""

    def _take(self, reception: _Reception, packets: Sequence[Packet]) -> Iterator[Gap]:
        connection, wall = reception.connection, datetime.now(UTC)
        for packet in packets:
            new = reception.overlap.is_new(packet, complete=connection.complete)
            if new:
                jump = reception.lost_before(packet)
                if self._last_wall and ((self._lost_because and not reception.overlap.seamless) or jump):
                    yield Gap(
                        began=self._last_wall,
                        ended=wall,
                        at_seconds=self._seconds,
                        seconds=jump or (wall - self._last_wall).total_seconds(),
                        cause=self._lost_because or connection.skipped or "the stream's clock jumped ahead",
                    )
                self._lost_because, connection.skipped = "", ""
                self._new_at, self._last_wall = time.monotonic(), wall
            reception.arrivals.append(_Arrival(packet, wall, self._seconds, new))
            if new:
                self._count(packet, reception.length_of(packet))
            reception.previous = packet
        if packets:
            reception.came_at = time.monotonic()

    def _count(self, packet: Packet, seconds: float) -> None:
        self._seconds += seconds
        self._bytes += packet.size
        self.tail.add(packet, at_seconds=self._seconds)

    def _files(self, reception: _Reception, files: Sequence[Path], *, last: bool = False) -> Iterator[Closed | Gap]:
        """Segments of those of the connection's files that are closed; those dealt with already are gone.

        Raises:
            MediaError: the video is of a kind that MPEG-TS does not hold.

        """
        for file in files:
            if not file.exists():
                continue
            packets = measure(file)
            if len(packets) > len(reception.arrivals) and not last:
                return  # it is closed, and not all of it is reported yet
            if not packets and _length([arrival.packet for arrival in reception.arrivals]) > UNREADABLE_SECONDS:
                raise MediaError(
                    "the video cannot be captured without decoding it",
                    code="unsupported",
                    where=self._address,
                    allowed="H.264, HEVC or MPEG video",
                    remedy=f"FFmpeg told of {reception.connection.trouble or 'nothing'}",
                )
            count = len(reception.arrivals) if last and file == files[-1] else len(packets)
            arrivals = [reception.arrivals.popleft() for _ in range(min(count, len(reception.arrivals)))]
            new = [arrival for arrival in arrivals if arrival.new]
            if new and not arrivals[0].new:
                cut(file, begin=new[0].packet.dts - min(arrival.packet.pts for arrival in arrivals))
                packets = measure(file)
            if len(packets) < len(new):
                yield self._lost(new, packets)
            if new and packets:
                began, ended, at_seconds = new[0].wall, new[-1].wall, new[0].at_seconds
                yield self._closed(file, packets, began=began, ended=ended, at_seconds=at_seconds)
            else:
                file.unlink()

    def _lost(self, arrivals: Sequence[_Arrival], packets: Sequence[Packet]) -> Gap:
        """What came and is not in its file."""
        seconds = _length([arrival.packet for arrival in arrivals]) - _length(packets)
        return Gap(
            began=arrivals[0].wall,
            ended=arrivals[-1].wall,
            at_seconds=arrivals[0].at_seconds,
            seconds=seconds,
            cause="lost where a connection ended, or up to the first keyframe of the next",
        )

    def _closed(
        self, file: Path, packets: Sequence[Packet], *, began: datetime, ended: datetime, at_seconds: float
    ) -> Closed:
        own = self._folder / f"segment-{self._segments:06d}.ts"
        file.rename(own)
        self._segments += 1
        size = own.stat().st_size
        return Closed(
            Segment(began=began, ended=ended, at_seconds=at_seconds, seconds=_length(packets), bytes=size), own
        )


def _length(packets: Sequence[Packet]) -> float:
    """Seconds that `packets`, in decoding order, are shown."""
    if not packets:
        return 0.0
    shown = [packet.pts for packet in packets]
    return max(shown) - min(shown) + packets[-1].duration
