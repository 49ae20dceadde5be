"""Which clips show the same footage: near-duplicate search over the signatures of a whole dataset, in numpy.

Locality-sensitive hashing (Indyk and Motwani, 1998): two hashes of the same moment differ in few of their 64 bits, so
some stretch of bits is mostly equal in both. Sorting by such a stretch brings them together; several stretches are
tried. What meets is compared bit by bit, then over time: the clips' signatures have to agree wherever they overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation.duplicates.signature import MIRROR

TABLES = 16
"""Stretches of bits that are tried, evenly spaced around the hash."""

MEET_BITS = 10
"""Bits in which hashes that meet may differ to make their clips candidates. Unrelated ones that agree in the sorted
stretch are mostly further apart, and a shared second of footage has several chances."""

AGREE_BITS = 14
"""Bits in which two hashes of the same moment may differ: nine in ten do not differ by more, see
`benchmarks/duplicates.py`; of unrelated ones, one in a hundred differs by less."""

AGREE_SHARE = 0.6
"""Share of the overlap's hashes that have to agree."""

AGREE_HASHES = 6
"""Hashes that have to agree: 2 s of footage in which something moves."""

NEIGHBOURS = 4
"""Clips that a hash is compared with in its stretch's bucket: so many before it, and so many at the bucket's head.
Cost stays linear however many clips share a moment (a test card, an advertisement run a thousand times), and all of
those still meet the best of them."""

MOST_CANDIDATES = 256
"""Candidates that one clip is compared with over time, the best ones of more: bounds the memory that crowds take."""

CHUNK = 1 << 19
"""Hashes compared at once, which bounds what the search holds beside its input and its result."""


@dataclass(frozen=True)
class Matches:
    """Pairs of clips that share footage, a row a pair, ordered by `second` and then `first`.

    Attributes:
        first, second: (P,) int64 numbers of the clips, `first` < `second`.
        begin, end: (P,) int64, the hashes [begin, end) of `second` that lie in the shared footage.
        lag: (P,) int64, number of the hash of `first` that belongs to number 0 of `second`; negative if before it.

    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    lag: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def _take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Matches:
        return Matches(*(getattr(self, field.name)[rows] for field in fields(self)))


def find_matches(hashes: NDArray[np.uint64], starts: NDArray[np.int64]) -> Matches:
    """Clips that show the same footage for `AGREE_HASHES` or more, mirrored or not.

    Args:
        hashes: (H,) signatures of all clips, one after the other; 0 where nothing moves. Below 2^32 of them.
        starts: (N + 1,) where each clip's signature begins in `hashes`; its end is the next one's begin. Where very
            many clips meet, they are compared with those that come first: put the best clips there.
    """
    owner = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    longest = int(np.diff(starts).max(initial=0))
    found = np.zeros(0, np.int64)
    for table in range(TABLES):
        meetings = _meetings(hashes, owner, rotate_by=table * 64 // TABLES)
        met = [_packed(pair, starts, owner, longest) for pair in meetings]
        found = _first_of_each(np.unique(np.concatenate([found, *met])), per=len(starts) * (2 * longest + 1))
    return _best_lags(_agreeing(_unpacked(found, len(starts), longest), hashes, starts))


def _meetings(
    hashes: NDArray[np.uint64], owner: NDArray[np.int32], *, rotate_by: int
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint32]]]:
    """Numbers of hashes of different clips that lie in one bucket of a table, and differ by at most `MEET_BITS`."""
    order, heads = _buckets(hashes, owner, rotate_by)
    placed = _unmirrored(hashes[order])
    for begin in range(0, len(order), CHUNK):
        here = np.arange(begin, min(begin + CHUNK, len(order)))
        head = heads[here]
        for step in range(NEIGHBOURS):
            before, leader = here - 1 - step, head + step
            for other, counts in ((before, before >= head), (leader, leader < here - NEIGHBOURS)):
                one, two = other[counts], here[counts]
                near = np.bitwise_count(placed[one] ^ placed[two]) <= MEET_BITS
                yield order[one[near]], order[two[near]]


def _buckets(
    hashes: NDArray[np.uint64], owner: NDArray[np.int32], rotate_by: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Numbers of the hashes, bucket by bucket and in order within each, and at which place each one's bucket begins.

    Zeros are left out, and so are all but the first of a clip's hashes in a bucket: one slow motion must not fill it.
    """
    keys = _sort_keys(hashes, rotate_by)
    order, bucket = keys.astype(np.uint32), (keys >> np.uint64(32)).astype(np.uint32)
    del keys
    first = _changes(bucket) | _changes(owner[order])
    order, bucket = order[first], bucket[first]
    begins = np.flatnonzero(_changes(bucket))
    return order, np.repeat(begins.astype(np.uint32), np.diff(begins, append=len(order)))


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a value differs from the one before it; true at the first."""
    return np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]])


def _sort_keys(hashes: NDArray[np.uint64], rotate_by: int) -> NDArray[np.uint64]:
    """Sorted: a stretch of each hash in the upper half, the number of the hash in the lower; without zeros.

    The stretch is as long as it takes for a bucket of unrelated hashes to hold about one.
    """
    width = min(32, max(8, len(hashes).bit_length()))
    keys = np.arange(len(hashes), dtype=np.uint64)
    for begin in range(0, len(hashes), CHUNK):
        turned = _unmirrored(hashes[begin : begin + CHUNK])
        turned = (turned << np.uint64(rotate_by)) | (turned >> np.uint64(64 - rotate_by)) if rotate_by else turned
        keys[begin : begin + CHUNK] |= (turned >> np.uint64(64 - width)) << np.uint64(32)
    keys = keys[hashes != 0]
    keys.sort()
    return keys


def _unmirrored(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hashes of pictures turned so that the bit of the lowest horizontal frequency is 0: equal for mirrored ones."""
    return np.minimum(hashes, hashes ^ MIRROR)


def _packed(
    met: tuple[NDArray[np.uint32], NDArray[np.uint32]],
    starts: NDArray[np.int64],
    owner: NDArray[np.int32],
    longest: int,
) -> NDArray[np.int64]:
    """Pairs of hashes as unique numbers of (first clip, second clip, lag)."""
    one, two = (numbers.astype(np.int64) for numbers in met)
    first, second = owner[one].astype(np.int64), owner[two].astype(np.int64)
    lag = (one - starts[first]) - (two - starts[second])
    swap = first > second
    first, second, lag = np.where(swap, second, first), np.where(swap, first, second), np.where(swap, -lag, lag)
    packed = (second * len(starts) + first) * (2 * longest + 1) + lag + longest
    return np.unique(packed[first != second])


def _first_of_each(packed: NDArray[np.int64], *, per: int) -> NDArray[np.int64]:
    """At most `MOST_CANDIDATES` of each second clip, whose numbers lie `per` apart; `packed` is sorted."""
    second = packed // per
    return packed[np.arange(len(packed)) - np.searchsorted(second, second) < MOST_CANDIDATES]


def _unpacked(packed: NDArray[np.int64], clips: int, longest: int) -> tuple[NDArray[np.int64], ...]:
    """Inverse: (first clip, second clip, lag)."""
    pairs, lag = np.divmod(packed, 2 * longest + 1)
    second, first = np.divmod(pairs, clips)
    return first, second, lag - longest


def _agreeing(
    candidates: tuple[NDArray[np.int64], ...], hashes: NDArray[np.uint64], starts: NDArray[np.int64]
) -> tuple[Matches, NDArray[np.int64]]:
    """The candidates whose signatures agree wherever they overlap, and in how many hashes."""
    first, second, lag = candidates
    lengths = np.diff(starts)
    begin = np.maximum(0, -lag)
    end = np.minimum(lengths[second], lengths[first] - lag)
    matches = Matches(first, second, begin, end, lag)
    agreed = np.zeros(len(matches), np.int64)
    for rows in _chunks(end - begin):
        agreed[rows] = _agreement(matches._take(rows), hashes, starts)
    return matches._take(agreed > 0), agreed[agreed > 0]


def _chunks(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Numbers of the rows that are long enough to agree, some at a time, `CHUNK` hashes together."""
    rows = np.flatnonzero(lengths >= AGREE_HASHES)
    parts = np.cumsum(lengths[rows]) // CHUNK
    yield from np.split(rows, np.flatnonzero(np.diff(parts)) + 1)


def _agreement(matches: Matches, hashes: NDArray[np.uint64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Per candidate, in how many hashes it agrees; 0 where that is not enough."""
    counts = matches.end - matches.begin
    bounds = np.cumsum(counts) - counts
    place = np.arange(int(counts.sum())) - np.repeat(bounds - matches.begin, counts)
    one = hashes[np.repeat(starts[matches.first] + matches.lag, counts) + place]
    two = hashes[np.repeat(starts[matches.second], counts) + place]
    moves = (one != 0) & (two != 0)
    compared = _sums(moves, bounds)
    agreed = np.maximum(
        _sums(moves & (np.bitwise_count(one ^ two) <= AGREE_BITS), bounds),
        _sums(moves & (np.bitwise_count(one ^ two ^ MIRROR) <= AGREE_BITS), bounds),
    )
    enough = (agreed >= AGREE_HASHES) & (agreed >= AGREE_SHARE * compared)
    return np.where(enough, agreed, 0)


def _sums(values: NDArray[np.bool_], bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.add.reduceat(values, bounds, dtype=np.int64) if len(bounds) else np.zeros(0, np.int64)


def _best_lags(found: tuple[Matches, NDArray[np.int64]]) -> Matches:
    """Of the lags at which a pair agrees (neighbouring ones do too), the one at which most hashes agree."""
    matches, agreed = found
    ordered = matches._take(np.lexsort((matches.lag, -agreed, matches.first, matches.second)))
    return ordered._take(_changes(ordered.first) | _changes(ordered.second))
