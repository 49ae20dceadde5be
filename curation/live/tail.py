"""Which packets of a new connection are captured already.

Servers begin with what they have in store: a playlist with its last segments, FLV with its last group of pictures. And
a playlist that nobody writes any more gives the same segments at every connection.
"""

from __future__ import annotations

from collections.abc import Iterable

from curation.live.ffmpeg import Packet

TAIL_SECONDS = 120.0


class Tail:
    """Hashes of the packets that were captured last."""

    def __init__(self, digests: Iterable[str] = (), *, at_seconds: float = 0.0) -> None:
        self._at = dict.fromkeys(digests, at_seconds)
        self.last = next(reversed(self._at), "")

    def __contains__(self, packet: Packet) -> bool:
        return packet.digest in self._at

    def until(self, at_seconds: float) -> tuple[str, ...]:
        """Hashes of the packets before `at_seconds` of the stream, oldest first."""
        return tuple(digest for digest, at in self._at.items() if at < at_seconds + 0.001)

    def add(self, packet: Packet, *, at_seconds: float) -> None:
        """Note a packet that is captured now, `at_seconds` of the stream."""
        self.last = packet.digest
        self._at.pop(packet.digest, None)
        self._at[packet.digest] = at_seconds
        while self._at[oldest := next(iter(self._at))] < at_seconds - TAIL_SECONDS:
            del self._at[oldest]


class Overlap:
    """Divides the packets of one connection into those of `tail`, with which it may begin, and what is new.

    Attributes:
        over: what comes now is new.
        seamless: the first new packet came right after the last one that was captured.
        known: hash of the last packet that was captured already, "" if there was none.

    """

    def __init__(self, tail: Tail) -> None:
        self._tail, self.over, self.seamless, self.known = tail, not tail.last, False, ""

    def is_new(self, packet: Packet, *, complete: bool) -> bool:
        """Whether `packet`, the next of the connection, is new.

        A `complete` playlist may begin at the very first segment, long before the tail: there, what is new comes after
        the last packet of the tail.
        """
        if self.over:
            return True
        if packet in self._tail:
            self.known = packet.digest
            self.seamless = packet.digest == self._tail.last
            self.over = self.seamless and complete
            return False
        if complete:
            return False
        self.over = True
        return True
