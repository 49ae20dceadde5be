"""Check one shard, sample by sample, against its rows of the index and the schema."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import IO, Any

from pydantic import ValidationError

from media.decoding import decode
from media.inputs import Input
from media.normalised import check_normalised
from pipelines import urls
from schemas.annotation import Annotation
from schemas.artifacts import ARTIFACTS, artifact, check
from schemas.clip import Clip
from schemas.errors import ArtifactError, MediaError
from schemas.record import Artifacts
from schemas.tables import META_MEMBER, SCHEMA_VERSION, SIDECAR_COPIES, Meta

_CHUNK = 1 << 22


@dataclass(frozen=True)
class Problem:
    """Something wrong. `where` is the file, then the member of the sample."""

    where: str
    what: str


@dataclass(kw_only=True)
class ShardReport:
    """What was read of one shard, and what is wrong with it. `recordings` are (key, recording) of its samples."""

    samples: int = 0
    members: int = 0
    frames: int = 0
    recordings: list[tuple[str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def check_shard(
    url: str, rows: Sequence[dict[str, Any]], *, name: str, size: int, sha256: str, required: frozenset[str]
) -> ShardReport:
    """Check the tar at `url` in one pass, one sample in memory at a time.

    The tar is cut at the offsets that the index gives, and each piece read as a tar of its own: damage in one sample
    hides no other, and an offset that is wrong shows.

    Args:
        url: of the shard.
        rows: its rows of the index.
        name: what problems call it.
        size: in bytes, as promised.
        sha256: as promised.
        required: members that every sample must have.

    """
    report = ShardReport()
    by_offset: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_offset[row["offset"]].append(row)
    try:
        with urls.open_read(url) as stream:
            hashing = _HashingReader(stream)
            cuts = sorted({0, *by_offset})
            for start, stop in pairwise([*cuts, None]):
                assert start is not None
                piece = hashing.read(None if stop is None else stop - start)
                found = _check_piece(piece, by_offset[start], start=start, shard=name, required=required)
                _add(report, found)
    except FileNotFoundError:
        report.problems.append(Problem(name, "is missing"))
        return report
    except OSError as error:
        report.problems.append(Problem(name, f"cannot be read: {error}"))
        return report
    if hashing.size != size:
        report.problems.append(Problem(name, f"has {hashing.size} bytes, not {size}"))
    elif hashing.hash.hexdigest() != sha256:
        report.problems.append(Problem(name, f"has sha256 {hashing.hash.hexdigest()[:12]}…, not {sha256[:12]}…"))
    return report


def rows_beside(rows: Sequence[dict[str, Any]], sidecar: str) -> list[dict[str, Any]]:
    """`rows` of the index as they would be if the sidecar were the shard: offset and members are those there."""
    member = artifact(sidecar).member
    return [
        {
            **row,
            "offset": row[sidecar]["offset"],
            "members": [
                *(each for each in row["members"] if each["name"] in SIDECAR_COPIES),
                {"name": member, "size": row[sidecar]["size"], "sha256": row[sidecar]["sha256"]},
            ],
        }
        for row in rows
        if row[sidecar] is not None
    ]


def sidecar_members(sidecar: str) -> frozenset[str]:
    """Members that every sample of the sidecar has."""
    return frozenset((*SIDECAR_COPIES, artifact(sidecar).member))


class _HashingReader:
    """Reads a stream from its start to its end, hashing and counting."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int | None) -> bytes:
        """The next `size` bytes, or all that are left; fewer where the stream ends."""
        chunks = []
        left = size
        while left != 0 and (chunk := self._stream.read(_CHUNK if left is None else min(left, _CHUNK))):
            chunks.append(chunk)
            left = None if left is None else left - len(chunk)
            self.hash.update(chunk)
            self.size += len(chunk)
        return b"".join(chunks)


def _add(report: ShardReport, found: ShardReport) -> None:
    report.samples += found.samples
    report.members += found.members
    report.frames += found.frames
    report.recordings += found.recordings
    report.problems += found.problems


def _check_piece(
    piece: bytes, rows: Sequence[dict[str, Any]], *, start: int, shard: str, required: frozenset[str]
) -> ShardReport:
    """Check the piece of a tar that begins at byte `start` and should hold the samples `rows` (one, or none)."""
    report = ShardReport()
    files, damage = _read_tar(piece)
    if damage is not None:
        report.problems.append(Problem(shard, f"is damaged from byte {start + damage} on"))
    samples: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for name, content in files:
        key, _, member = name.partition(".")
        if member in samples[key]:
            report.problems.append(Problem(f"{shard}: {name}", "is there twice"))
        samples[key][member] = content
    report.members = len(files)
    for row in rows:
        members = samples.pop(row["key"], None)
        if members is None:
            report.problems.append(Problem(shard, f"lacks sample {row['key']} at byte {row['offset']}"))
        else:
            _add(report, _check_sample(row, members, shard=shard, required=required))
    for key in samples:
        report.problems.append(Problem(shard, f"holds sample {key}, which the index does not have there"))
    return report


def _read_tar(piece: bytes) -> tuple[list[tuple[str, bytes]], int | None]:
    """Files of a tar, as (name, content), and the byte from which on it is none (None: it is sound to its end)."""
    files: list[tuple[str, bytes]] = []
    end = 0
    if not piece:
        return files, None
    try:
        with tarfile.open(fileobj=io.BytesIO(piece), mode="r:", errors="replace") as tar:
            while file := tar.next():
                content = tar.extractfile(file) if file.isreg() else None  # a link could name anything
                files.append((file.name, b"" if content is None else content.read()))
                end = tar.offset
    except (tarfile.TarError, ValueError, RecursionError):
        return files, end
    # tarfile takes a header that it cannot read for the end; the end is zeros.
    return files, end if any(memoryview(piece)[end:]) else None


def _check_sample(
    row: dict[str, Any], members: dict[str, bytes], *, shard: str, required: frozenset[str]
) -> ShardReport:
    key = row["key"]
    report = ShardReport(samples=1)

    def problem(member: str, what: str) -> None:
        report.problems.append(Problem(f"{shard}: {key}.{member}", what))

    listed = {member["name"]: member for member in row["members"]}
    for name in sorted(required - {*listed, *members}):
        problem(name, "is missing")
    for name in sorted(members.keys() - listed.keys()):
        problem(name, "is not in the index")
    sound = dict(members)
    for name, said in listed.items():
        if name not in members:
            problem(name, "is missing")
        elif len(members[name]) != said["size"]:
            problem(name, f"has {len(members[name])} bytes, not {said['size']}")
            del sound[name]
        elif hashlib.sha256(members[name]).hexdigest() != said["sha256"]:
            problem(name, "is not the bytes that the index names (sha256 differs)")
            del sound[name]
    if META_MEMBER not in sound:
        return report
    try:
        meta = Meta.model_validate_json(sound[META_MEMBER])
    except ValidationError as error:
        problem(META_MEMBER, f"does not fit the schema: {error}")
        return report
    if meta.key != key or meta.schema_version != SCHEMA_VERSION:
        problem(META_MEMBER, f"is of key {meta.key}, schema version {meta.schema_version}")
    report.recordings.append((key, meta.pair.video))
    report.frames = meta.span.frames
    for name, what in _check_members(meta, sound, row):
        problem(name, what)
    return report


def _check_members(meta: Meta, members: dict[str, bytes], row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Decode all that is there, and compare it with the record and with the index."""
    kinds = {kind.member: name for name, kind in ARTIFACTS.items() if kind.shared or kind.sidecar}
    for member in sorted(members.keys() - kinds.keys() - {META_MEMBER}):
        yield member, f"is no member of the schema; allowed: {', '.join([*kinds, META_MEMBER])}"
    artifacts = Artifacts({name: members[member] for member, name in kinds.items() if member in members})
    clip = Clip(key=meta.key, pair=meta.pair, source=meta.source, span=meta.span, artifacts=artifacts)
    for name in list(artifacts):
        member = ARTIFACTS[name].member
        try:
            check(name, artifacts[name], clip)
            if name == "video":
                _check_video(artifacts[name], clip)
        except (ArtifactError, MediaError) as error:
            yield member, error.what
            del artifacts[name]  # others are checked as if it were absent
            continue
        if name == "annotation":
            for column, what in _differences(row, _annotation_columns(artifacts[name])):
                yield member, f"{column} differs from the index: {what}"
    for column, what in _differences(row, _meta_columns(meta)):
        yield META_MEMBER, f"{column} differs from the index: {what}"


def _check_video(video: bytes, clip: Clip) -> None:
    """Raise `MediaError` unless `video` is in the normalised form and decodes to the frames of `clip.span`."""
    span = clip.span
    layout = check_normalised(video)
    said, found = (span.width, span.height, span.fps), (layout.width, layout.height, layout.fps)
    if found != said:
        raise MediaError(f"is {_size(*found)}, its record says {_size(*said)}", code="unsupported")
    with Input(video) as recording:
        frames = sum(1 for _ in decode(recording))
    if frames != span.frames:
        raise MediaError(f"decodes to {frames} frames, its record says {span.frames}", code="truncated")


def _size(width: int, height: int, fps: Any) -> str:
    return f"{width}×{height} at {fps} fps"


def _meta_columns(meta: Meta) -> dict[str, Any]:
    return {
        "pair_id": meta.pair.pair_id,
        "part": str(meta.pair.part),
        "split_group": meta.pair.split_group,
        "licence": meta.pair.licence,
        "garment_source": meta.garment_source,
        "frames": meta.span.frames,
        "fps": float(meta.span.fps),
        "width": meta.span.width,
        "height": meta.span.height,
        "metrics": meta.metrics,
    }


def _annotation_columns(annotation: Annotation) -> dict[str, Any]:
    return {
        "global_caption": annotation.global_caption,
        "categories": sorted({action.category for action in annotation.actions}),
        "actions": [action.model_dump() for action in annotation.actions],
        "interactive_frames": sum(annotation.labels),
    }


def _differences(row: dict[str, Any], columns: dict[str, Any]) -> Iterator[tuple[str, str]]:
    measured = {name: value for name, value in (row["metrics"] or {}).items() if value is not None}
    for column, value in columns.items():
        indexed = measured if column == "metrics" else row[column]
        if indexed != value:
            yield column, f"{value!r} here, {indexed!r} there"
