"""The clip store: one file a clip, one ledger a recording, on any fsspec URL.

WORK/clips/PAIR/KEY.clip     `schemas.record.encode_clip`: record and artifacts
WORK/ledgers/PAIR.json       what a whole recording gave: written last, when all its clips are stored
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from pipelines import urls
from schemas.artifacts import ARTIFACTS
from schemas.clip import Clip, Failure
from schemas.errors import DatasetError
from schemas.manifest import Pair
from schemas.record import RECORD, decode_clip, decode_record, encode_clip


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


_LEDGER: TypeAdapter[Ledger] = TypeAdapter(Ledger)


class ClipStore:
    """Clips and ledgers under one URL. Safe for many writers: a file is written whole or not at all."""

    def __init__(self, url: str) -> None:
        self.url = urls.absolute(url)

    def _clip_url(self, key: str) -> str:
        return urls.join(self.url, "clips", key.rpartition("-")[0], f"{key}.clip")

    def put(self, clip: Clip) -> None:
        """Store `clip`, in place of what was there under its key."""
        urls.write_whole(self._clip_url(clip.key), encode_clip(clip))

    def put_encoded(self, key: str, data: bytes) -> None:
        """Store a clip that is encoded already."""
        urls.write_whole(self._clip_url(key), data)

    def get(self, key: str) -> Clip | None:
        """The clip under `key`, or None. Raises `DatasetError` naming the file if it is damaged."""
        data = urls.read(self._clip_url(key))
        if data is None:
            return None
        try:
            return decode_clip(data)
        except DatasetError as error:
            raise DatasetError(
                error.what, where=self._clip_url(key), remedy="Delete it; the next build makes it anew"
            ) from error

    def record(self, key: str) -> Clip | None:
        """Like `get`, but reads the record only; its artifacts are empty."""
        members = self.members(key, (RECORD,))
        return None if members is None else decode_record(members[RECORD])

    def members(self, key: str, names: tuple[str, ...] | None = None) -> dict[str, bytes] | None:
        """Members of a stored clip by file name, undecoded; all, or those in `names` that are there."""
        fs, path = urls.filesystem(self._clip_url(key))
        try:
            with fs.open(path, "rb") as stream, zipfile.ZipFile(stream) as archive:
                return {name: archive.read(name) for name in archive.namelist() if names is None or name in names}
        except FileNotFoundError:
            return None
        except zipfile.BadZipFile as error:
            raise DatasetError(
                f"this stored clip is damaged: {error}",
                where=self._clip_url(key),
                remedy="Delete it; the next build makes it anew",
            ) from error

    def keys(self, pair_id: str) -> list[str]:
        """Keys of the stored clips of a pair, in order, whatever made them."""
        fs, path = urls.filesystem(urls.join(self.url, "clips", pair_id))
        if not fs.isdir(path):
            return []
        names = (name.rpartition("/")[2] for name in fs.ls(path, detail=False))
        return sorted(name.removesuffix(".clip") for name in names if name.endswith(".clip"))

    def delete(self, key: str) -> None:
        """Remove a stored clip."""
        fs, path = urls.filesystem(self._clip_url(key))
        fs.rm_file(path)

    def put_ledger(self, ledger: Ledger) -> None:
        """Store `ledger`: from now on its recording counts as read."""
        data = _LEDGER.dump_json(ledger, exclude={"rejected": {"__all__": {"artifacts"}}})
        urls.write_whole(urls.join(self.url, "ledgers", f"{ledger.pair.pair_id}.json"), data)

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

    def ledgers(self) -> Iterator[Ledger]:
        """All ledgers, in order of pair id."""
        fs, path = urls.filesystem(urls.join(self.url, "ledgers"))
        if not fs.isdir(path):
            return
        for name in sorted(fs.ls(path, detail=False)):
            pair_id = name.rpartition("/")[2].removesuffix(".json")
            if name.endswith(".json") and (ledger := self.ledger(pair_id)):
                yield ledger


SHARED_MEMBERS = tuple(kind.member for kind in ARTIFACTS.values() if kind.shared)
"""Members of a stored clip that go into the shards, as they are."""
