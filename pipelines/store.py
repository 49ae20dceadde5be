"""The clip store: one file a clip, one ledger a recording, on any fsspec URL.

WORK/clips/PAIR/KEY.clip     `schemas.record.encode_clip`: record and artifacts
WORK/ledgers/PAIR.json       what a whole recording gave: written last, when all its clips are stored
WORK/records/PAIR.json.gz    copy of the records of a pair's clips, to read them at once; each is good for one state of
                             its clip's file, and what is missing or outdated is read from the clips
WORK/unfinished/             on disk only: what is being written, and what a killed writer was writing
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from pipelines import urls
from schemas.clip import Clip, Failure
from schemas.errors import DatasetError
from schemas.manifest import Pair
from schemas.record import Artifacts, decode_clip, decode_head, encode_clip, members_of

HEAD_BYTES = 32 * 1024
"""What is read of a clip's file to get at its record, which is mostly some 5 kB."""
HEADS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What one manifest row gave.

    Attributes:
        pair: the row.
        recording: hash of the recording's size and time, and of the span that was asked for.
        fingerprint: of the ingest that read it.
        keys: its clips, in time order; each is in the store.
        rejected: records of the stretches that made no clip (too short), without artifacts.
        failure: why the recording could not be read to its end, or None.

    """

    pair: Pair
    recording: str
    fingerprint: str
    keys: tuple[str, ...] = ()
    rejected: tuple[Clip, ...] = field(default=())
    failure: Failure | None = None


@dataclass(frozen=True)
class _Copy:
    """Copy of a clip's record, and the `urls` identity that the clip's file had."""

    identity: str
    record: Clip


Content = TypeVar("Content")
_LEDGER: TypeAdapter[Ledger] = TypeAdapter(Ledger)
_COPIES: TypeAdapter[dict[str, _Copy]] = TypeAdapter(dict[str, _Copy])


class ClipStore:
    """Clips and ledgers under one URL. Safe for many writers: a file is written whole or not at all."""

    def __init__(self, url: str) -> None:
        self.url = urls.absolute(url)

    def _clip_url(self, key: str) -> str:
        return urls.join(self.url, "clips", key.rpartition("-")[0], f"{key}.clip")

    def put(self, clip: Clip) -> None:
        """Store `clip`, in place of what was there under its key."""
        self.put_encoded(clip.key, encode_clip(clip))

    def put_encoded(self, key: str, data: bytes) -> None:
        """Store a clip that is encoded already."""
        self._write(self._clip_url(key), data)

    def get(self, key: str) -> Clip | None:
        """The clip under `key`, or None. Raises `DatasetError` naming the file if it is damaged."""
        return self._decoded(key, decode_clip)

    def members(self, key: str) -> dict[str, bytes] | None:
        """Like `get`, but members by file name, undecoded."""
        return self._decoded(key, members_of)

    def _decoded(self, key: str, decode: Callable[[bytes], Content]) -> Content | None:
        data = urls.read(self._clip_url(key))
        if data is None:
            return None
        try:
            return decode(data)
        except DatasetError as error:
            raise DatasetError(
                error.what, where=self._clip_url(key), remedy="Delete it; the next build makes it anew"
            ) from error

    def sweep(self) -> None:
        """Remove what writers that were killed left half-written."""
        urls.sweep(self._unfinished)

    @property
    def _unfinished(self) -> str:
        return urls.join(self.url, "unfinished")

    def _write(self, url: str, data: bytes) -> None:
        urls.write_whole(url, data, unfinished=self._unfinished)

    def keys(self, pair_id: str) -> list[str]:
        """Keys of the stored clips of a pair, in order, whatever made them."""
        return sorted(self._files(pair_id))

    def records(self, pair_id: str, *, remember: bool = False) -> dict[str, Clip | None]:
        """Records of the stored clips of a pair, without artifacts, by key in order; None where the file is damaged.

        A listing, one file with copies, and a read of each clip whose file has changed since it was copied; the clips
        are the truth. With `remember` the copies are brought up to date. Only the record of each file is looked at:
        what is damaged further on, `get` and `members` will find.
        """
        files = self._files(pair_id)
        copies = self._copies(pair_id) if files else {}
        good = {key: copies[key].record for key in files if key in copies and copies[key].identity == files[key]}
        read = self._read_records([key for key in files if key not in good])
        if remember and (read or len(copies) > len(good)):
            whole = {key: record for key, record in {**good, **read}.items() if record}
            self._put_copies(pair_id, {key: _Copy(files[key], record) for key, record in sorted(whole.items())})
        return dict(sorted({**good, **read}.items()))

    def _files(self, pair_id: str) -> dict[str, str]:
        """Key → identity of the file of each stored clip of a pair."""
        names = urls.files_in(urls.join(self.url, "clips", pair_id))
        return {name.removesuffix(".clip"): identity for name, identity in names.items() if name.endswith(".clip")}

    def _read_records(self, keys: list[str]) -> dict[str, Clip | None]:
        records: dict[str, Clip | None] = {}
        for first in range(0, len(keys), HEADS_AT_ONCE):
            some = keys[first : first + HEADS_AT_ONCE]
            heads = urls.read_heads([self._clip_url(key) for key in some], HEAD_BYTES)
            records |= {key: self._record(key, head) for key, head in zip(some, heads, strict=True) if head is not None}
        return records

    def _record(self, key: str, head: bytes) -> Clip | None:
        try:
            return decode_head(head) or decode_head(urls.read(self._clip_url(key)) or b"")
        except DatasetError:
            return None

    def _copies(self, pair_id: str) -> dict[str, _Copy]:
        data = urls.read(self._copies_url(pair_id))
        try:
            copies = _COPIES.validate_json(gzip.decompress(data)) if data else {}
        except (OSError, EOFError, zlib.error, ValidationError):  # damaged, or of another version: it is only a copy
            return {}
        for copy in copies.values():
            copy.record.artifacts = Artifacts()
        return copies

    def _put_copies(self, pair_id: str, copies: dict[str, _Copy]) -> None:
        data = _COPIES.dump_json(copies, exclude={"__all__": {"record": {"artifacts"}}})
        self._write(self._copies_url(pair_id), gzip.compress(data, compresslevel=1, mtime=0))

    def _copies_url(self, pair_id: str) -> str:
        return urls.join(self.url, "records", f"{pair_id}.json.gz")

    def delete(self, key: str) -> None:
        """Remove a stored clip, if it is there."""
        urls.delete(self._clip_url(key))

    def put_ledger(self, ledger: Ledger) -> None:
        """Store `ledger`: from now on its recording counts as read."""
        data = _LEDGER.dump_json(ledger, exclude={"rejected": {"__all__": {"artifacts"}}})
        self._write(urls.join(self.url, "ledgers", f"{ledger.pair.pair_id}.json"), data)

    def ledger(self, pair_id: str) -> Ledger | None:
        """Ledger of a pair, or None where its recording was not read to the end."""
        url = urls.join(self.url, "ledgers", f"{pair_id}.json")
        data = urls.read(url)
        if data is None:
            return None
        try:
            return _LEDGER.validate_json(data)
        except ValidationError as error:
            raise DatasetError(f"this is no ledger: {error}", where=url, remedy="Delete it") from error
