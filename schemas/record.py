"""A clip as bytes: one uncompressed zip of `record.json` and the artifacts' members.

The same form is a file of the clip store and the parcel between workers. Artifacts are decoded when first read, and
those nobody touched are written back as they came.
"""

from __future__ import annotations

import copy
import io
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from schemas.artifacts import ARTIFACTS, artifact
from schemas.clip import Clip
from schemas.errors import ArtifactError, DatasetError

RECORD = "record.json"
_CLIP: TypeAdapter[Clip] = TypeAdapter(Clip)
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # of a zip's member: signature, version, flags, method, time, date, …
_ZIP_ERRORS = (zipfile.BadZipFile, KeyError, EOFError, ValueError, OSError, RuntimeError, struct.error)  # if damaged
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold: no clock in the bytes


class Artifacts(MutableMapping[str, Any]):
    """Artifacts by name, each decoded on first access."""

    def __init__(self, encoded: Mapping[str, bytes] | None = None) -> None:
        self._encoded: dict[str, bytes] = dict(encoded or {})
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._decoded:
            data = self._encoded[name]
            try:
                self._decoded[name] = artifact(name).decode(data)
            except ArtifactError:
                raise
            except Exception as error:  # codecs are third-party; whatever they raise on bad bytes means the same
                raise ArtifactError(f"{name} does not decode: {error}") from error
        return self._decoded[name]

    def __setitem__(self, name: str, value: Any) -> None:
        artifact(name)
        self._encoded.pop(name, None)
        self._decoded[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._encoded.pop(name, None)
        self._decoded.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._encoded or name in self._decoded

    def __iter__(self) -> Iterator[str]:
        return (name for name in ARTIFACTS if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __copy__(self) -> Artifacts:
        """Another mapping of the same values."""
        twin = Artifacts(self._encoded)
        twin._decoded = dict(self._decoded)
        return twin

    def parted(self, names: Collection[str]) -> tuple[Artifacts, Artifacts]:
        """Two mappings: all but `names`, and those."""
        rest, taken = copy.copy(self), copy.copy(self)
        for name in self:
            del (rest if name in names else taken)[name]
        return rest, taken

    def joined(self, others: Artifacts) -> Artifacts:
        """The artifacts of both; those of `self` go before."""
        both = copy.copy(self)
        for name in others.keys() - self.keys():
            both._encoded |= {name: others._encoded[name]} if name in others._encoded else {}
            both._decoded |= {name: others._decoded[name]} if name in others._decoded else {}
        return both

    def changed_since(self, before: Artifacts) -> set[str]:
        """Names whose value was set, replaced or removed since `self` was copied from `before`."""
        return {name for name in ARTIFACTS if (name in self or name in before) and not self._same(before, name)}

    def _same(self, other: Artifacts, name: str) -> bool:
        values = ((self._encoded, other._encoded), (self._decoded, other._decoded))
        return any(name in mine and mine[name] is theirs.get(name) for mine, theirs in values)

    def encoded(self, name: str) -> bytes:
        """Bytes of artifact `name`, as its codec writes them."""
        if name not in self._encoded:
            self._encoded[name] = artifact(name).encode(self._decoded[name])
        return self._encoded[name]


def encode_record(clip: Clip) -> bytes:
    """All of `clip` but its artifacts, as JSON."""
    return _CLIP.dump_json(clip, exclude={"artifacts"})


def decode_record(data: bytes) -> Clip:
    """Inverse of `encode_record`. Raises `DatasetError` where the JSON is no record."""
    try:
        clip = _CLIP.validate_json(data)
    except ValidationError as error:
        raise DatasetError(f"this is no clip record: {error}") from error
    clip.artifacts = Artifacts()
    return clip


def encode_clip(clip: Clip) -> bytes:
    """`clip` whole. Equal clips give equal bytes."""
    artifacts = as_artifacts(clip.artifacts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(RECORD, _EPOCH), encode_record(clip))
        for name in artifacts:
            archive.writestr(zipfile.ZipInfo(ARTIFACTS[name].member, _EPOCH), artifacts.encoded(name))
    return buffer.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    """Members of an encoded clip by file name, undecoded. Raises `DatasetError` where the bytes are damaged."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > len(data) or any(m.compress_type for m in members):
                raise zipfile.BadZipFile("its members are larger than the file")  # ours are not compressed: no bombs
            return {member.filename: archive.read(member) for member in members}
    except _ZIP_ERRORS as error:
        raise DatasetError(f"this is no stored clip, or it is damaged: {error}") from error


def decode_clip(data: bytes) -> Clip:
    """Inverse of `encode_clip`. Raises `DatasetError` where the bytes are damaged."""
    members = members_of(data)
    if RECORD not in members:
        raise DatasetError("this is no stored clip, or it is damaged: there is no record in it")
    clip = decode_record(members[RECORD])
    encoded = {name: members[kind.member] for name, kind in ARTIFACTS.items() if kind.member in members}
    clip.artifacts = Artifacts(encoded)
    return clip


def decode_head(data: bytes) -> Clip | None:
    """The record from the first bytes of an encoded clip, without its artifacts; None if they end before it does.

    Raises `DatasetError` where the bytes are damaged.
    """
    if len(data) < _LOCAL_HEADER.size:
        return None
    signature, _, _, method, _, _, crc, size, _, name_length, extra_length = _LOCAL_HEADER.unpack_from(data)
    name = data[_LOCAL_HEADER.size : _LOCAL_HEADER.size + name_length]
    if (signature, method, name) != (b"PK\x03\x04", zipfile.ZIP_STORED, RECORD.encode()):
        raise DatasetError("this is no stored clip, or it is damaged: it does not begin with a record")
    start = _LOCAL_HEADER.size + name_length + extra_length
    record = data[start : start + size]
    if len(record) < size:
        return None
    if zlib.crc32(record) != crc:
        raise DatasetError("this stored clip is damaged: its record has another checksum")
    return decode_record(record)


def as_artifacts(values: Mapping[str, Any]) -> Artifacts:
    """`values` by name, as a mapping that encodes."""
    if isinstance(values, Artifacts):
        return values
    artifacts = Artifacts()
    artifacts.update(values)
    return artifacts
