"""The clips of a dataset beside each other: how much of each a better copy shows too, and which copy that is."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from curation.duplicates.search import Matches, find_matches
from curation.duplicates.signature import decode_signature
from schemas.clip import Clip


@dataclass(frozen=True)
class Copy:
    """What of a clip is in the dataset already.

    Attributes:
        share: of the clip's footage that better copies show, 0..1.
        best: key of the one that shows most of it.

    """

    share: float
    best: str


@dataclass(frozen=True)
class SharedFootage:
    """What the clips of a dataset have in common.

    Attributes:
        copies: by key, of the clips that have footage in common with a better one.
        links: pairs of pair ids whose clips share footage, however little, and whatever was dropped.

    """

    copies: dict[str, Copy] = field(default_factory=dict)
    links: frozenset[tuple[str, str]] = frozenset()


class Footage:
    """Collects the signatures of clips, some 300 bytes a clip, and compares them.

    The better of two copies has more pixels; of equal ones, more bytes were spent on it in its recording, as it is
    longer or less compressed; of equal ones again, it was added first.
    """

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._parts: list[str] = []
        self._pixels, self._bytes, self._lengths = array("q"), array("q"), array("q")
        self._hashes = array("Q")

    def add(self, clip: Clip) -> None:
        """Take note of a clip that has its signature."""
        hashes = decode_signature(clip.signature)
        self._keys.append(clip.key)
        self._parts.append(clip.pair.part)
        self._pixels.append(clip.span.width * clip.span.height)
        self._bytes.append(clip.span.bytes)
        self._lengths.append(len(hashes))
        self._hashes.frombytes(hashes.tobytes())

    def compare(self, drops: Callable[[float], bool]) -> SharedFootage:
        """Find what the clips share. `drops` says of a share whether the clip is dropped for it.

        From the best clip to the worst, each is held against the better ones that stay: what a dropped clip shows
        counts for nothing, so no footage is lost by dropping two that have each other. Clips of another part of the
        body are other samples, and no copies.
        """
        ranked = np.lexsort((-np.asarray(self._bytes, np.int64), -np.asarray(self._pixels, np.int64)))
        lengths = np.asarray(self._lengths, np.int64)
        matches = find_matches(
            _gathered(np.asarray(self._hashes, np.uint64), lengths, ranked), _starts(lengths[ranked])
        )
        stays = np.ones(len(ranked), bool)
        copies = {}
        for clip, rows in _by_second(matches):
            better = [
                row for row in rows
                if stays[matches.first[row]] and self._parts[ranked[matches.first[row]]] == self._parts[ranked[clip]]
            ]  # fmt: skip
            if better:
                share, best = _share(matches, better, length=int(lengths[ranked[clip]]))
                copies[self._keys[ranked[clip]]] = Copy(share, self._keys[ranked[best]])
                stays[clip] = not drops(share)
        return SharedFootage(copies, self._links(matches, ranked))

    def _links(self, matches: Matches, ranked: NDArray[np.int64]) -> frozenset[tuple[str, str]]:
        pairs = (
            tuple(sorted((_pair_id(self._keys[ranked[first]]), _pair_id(self._keys[ranked[second]]))))
            for first, second in zip(matches.first, matches.second, strict=True)
        )
        return frozenset((one, two) for one, two in pairs if one != two)


def _share(matches: Matches, rows: list[int], *, length: int) -> tuple[float, int]:
    """Share of a clip of `length` hashes that the matches in `rows` cover together, and the clip that covers most."""
    covered = np.zeros(length, bool)
    for row in rows:
        covered[matches.begin[row] : matches.end[row]] = True
    most = max(rows, key=lambda row: int(matches.end[row] - matches.begin[row]))
    return float(covered.mean()), int(matches.first[most])


def _by_second(matches: Matches) -> Iterator[tuple[int, range]]:
    """(clip, its rows), for each clip that has a better one."""
    heads = np.flatnonzero(np.diff(matches.second, prepend=-1))
    for begin, end in pairwise([*heads.tolist(), len(matches)]):
        yield int(matches.second[begin]), range(begin, end)


def _gathered(hashes: NDArray[np.uint64], lengths: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The runs of `hashes` that have `lengths`, in another order."""
    begins = _starts(lengths)[:-1]
    counts = lengths[order]
    return hashes[np.arange(len(hashes)) + np.repeat(begins[order] - _starts(counts)[:-1], counts)]


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def _pair_id(key: str) -> str:
    return key.rpartition("-")[0]
