"""Pack the clip store into shards. Same store and config: byte-identical tars, however they came to be stored.

OUT/shards/{train,test}-000000.tar, index.parquet, decisions.parquet, dataset.json, README.md
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import webdataset

from pipelines import urls
from pipelines.lookahead import in_order
from pipelines.split import SPLITS
from pipelines.store import ClipStore
from pipelines.tables import INDEX, open_table, table_writer
from schemas.annotation import Annotation
from schemas.artifacts import ARTIFACTS
from schemas.clip import Clip
from schemas.config import ShardsConfig
from schemas.errors import DatasetError
from schemas.record import RECORD, decode_record
from schemas.tables import META_MEMBER, SCHEMA_VERSION, Meta, index_schema

DATASET = "dataset.json"

AsWritten = Callable[[str | None], str | None]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One written tar: its name relative to the output, size in bytes, hash, and how many samples it holds."""

    name: str
    split: str
    size: int
    sha256: str
    samples: int


@dataclass(kw_only=True)
class SplitTotals:
    """What the samples of one split add up to."""

    samples: int = 0
    frames: int = 0
    interactive_frames: int = 0
    actions: int = 0
    hours: float = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the index."""
        self.samples += 1
        self.frames += row["frames"]
        self.interactive_frames += row["interactive_frames"]
        self.actions += len(row["actions"])
        self.hours += row["frames"] / row["fps"] / 3600


@dataclass(frozen=True)
class Packed:
    """What packing wrote: the shards, and what the samples of each split add up to."""

    shards: tuple[Shard, ...]
    splits: Mapping[str, SplitTotals]

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)


@dataclass(frozen=True)
class Sample:
    """A sample as it is written: members by name (without the key), and its row of the index."""

    key: str
    members: dict[str, bytes] = field(repr=False)
    row: dict[str, Any] = field(repr=False)


def pack(
    store: ClipStore,
    keys: Mapping[str, Iterable[str]],
    *,
    output: str,
    config: ShardsConfig,
    members: Sequence[str],
    stages: Sequence[str],
    metrics: Sequence[str],
    as_written: AsWritten,
) -> Packed:
    """Write the clips `keys` (of each split, in their order) as shards and `index.parquet` under `output`.

    `members` and `stages` name the members, and the stages whose fingerprints, belong to the dataset, `metrics` the
    columns of the index; `as_written` takes an absolute URL back to what the manifest said.

    Raises:
        DatasetError: a clip is not in the store, or its file is damaged.

    """
    shards: list[Shard] = []
    splits = {split: SplitTotals() for split in SPLITS}
    with table_writer(urls.join(output, INDEX), index_schema(metrics)) as write_row:
        for split, chosen in sorted(keys.items()):
            make = partial(make_sample, store, split=split, wanted=members, stages=stages, as_written=as_written)
            for shard, rows in _write_shards(in_order(make, chosen), output=output, split=split, config=config):
                shards.append(shard)
                for row in rows:
                    splits[split].add(row)
                    write_row(row)
    return Packed(tuple(shards), splits)


def packed_before(output: str, contents: str) -> Packed | None:
    """What is packed in `output` already, if it was made of the same `contents` (a hash) and every file is there."""
    try:
        described = json.loads(urls.read(urls.join(output, DATASET)) or b"{}")
        if (described.get("schema_version"), described.get("contents")) != (SCHEMA_VERSION, contents):
            return None
        splits = {split: SplitTotals(**totals) for split, totals in described["splits"].items()}
        packed = Packed(tuple(Shard(**shard) for shard in described["shards"]), splits)
        with open_table(urls.join(output, INDEX)) as index:
            rows = index.metadata.num_rows
    except (ValueError, TypeError, KeyError, AttributeError, DatasetError):  # damaged: it is written anew
        return None
    there = all(urls.size(urls.join(output, shard.name)) == shard.size for shard in packed.shards)
    return packed if there and rows == packed.samples else None


def make_sample(
    store: ClipStore, key: str, *, split: str, wanted: Sequence[str], stages: Sequence[str], as_written: AsWritten
) -> Sample:
    """The sample of one stored clip: its `wanted` members as they are stored, and `meta.json`."""
    try:
        stored = store.members(key)
    except DatasetError as error:
        store.delete(key)
        raise DatasetError(
            f"{error.what}; it was removed", where=error.where, remedy="`vvt build` makes it anew, then packs"
        ) from error
    if stored is None:
        raise DatasetError(
            "the clip left the store while it was being packed", where=key, remedy="Run the same command again"
        )
    clip = decode_record(stored[RECORD])
    members = {name: stored[name] for name in sorted({*wanted} & {*stored})}
    members[META_MEMBER] = sample_meta(clip, stages=stages, as_written=as_written).model_dump_json().encode()
    annotation = (
        ARTIFACTS["annotation"].decode(members[ARTIFACTS["annotation"].member])
        if "annotation.json" in members
        else None
    )
    return Sample(key, members, _index_row(clip, members, annotation=annotation, split=split))


def sample_meta(clip: Clip, *, stages: Sequence[str], as_written: AsWritten) -> Meta:
    """`meta.json` of a stored clip."""
    pair = clip.pair.model_copy(update={"video": as_written(clip.pair.video), "garment": as_written(clip.pair.garment)})
    source = clip.source.__class__(**{**vars(clip.source), "url": as_written(clip.source.url)})
    return Meta(
        key=clip.key,
        pair=pair,
        source=source,
        span=clip.span,
        garment_source=garment_source(clip),
        stages={name: clip.fingerprints[name] for name in stages if name in clip.fingerprints},
        metrics=dict(sorted(clip.metrics.items())),
    )


def garment_source(clip: Clip) -> str:
    """Where the garment image is from: "image" of the manifest, or "crop" of the clip."""
    return "image" if clip.pair.garment else "crop"


def _index_row(clip: Clip, members: dict[str, bytes], *, annotation: Annotation | None, split: str) -> dict[str, Any]:
    actions = annotation.actions if annotation else ()
    return {
        "key": clip.key,
        "split": split,
        "pair_id": clip.pair.pair_id,
        "part": str(clip.pair.part),
        "split_group": clip.pair.split_group,
        "licence": clip.pair.licence,
        "garment_source": garment_source(clip),
        "categories": sorted({action.category for action in actions}),
        "frames": clip.span.frames,
        "interactive_frames": sum(annotation.labels) if annotation else 0,
        "fps": float(clip.span.fps),
        "width": clip.span.width,
        "height": clip.span.height,
        "global_caption": annotation.global_caption if annotation else "",
        "actions": [action.model_dump() for action in actions],
        "members": [
            {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(members.items())
        ],
        "metrics": dict(clip.metrics),
    }


class _HashingStream(io.RawIOBase):
    """Passes writes on, hashing and counting them."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._stream.write(data)
        self.hash.update(data)
        self.size += len(data)
        return len(data)


def _write_shards(
    samples: Iterator[Sample], *, output: str, split: str, config: ShardsConfig
) -> Iterator[tuple[Shard, list[dict[str, Any]]]]:
    waiting = next(samples, None)
    number = 0
    while waiting is not None:
        name = f"shards/{split}-{number:06d}.tar"
        rows: list[dict[str, Any]] = []
        with urls.open_whole(urls.join(output, name)) as stream:
            hashing = _HashingStream(stream)
            with (
                io.BufferedWriter(hashing, buffer_size=1 << 20) as buffered,  # tarfile writes 10 kB at a time
                # No owner, no clock: equal samples give equal bytes.
                webdataset.TarWriter(buffered, encoder=False, mtime=0, user="", group="") as writer,
            ):
                while waiting is not None and _has_room(len(rows), writer.tarstream.offset, waiting, config):
                    rows.append({**waiting.row, "shard": name, "offset": writer.tarstream.offset})
                    writer.write({"__key__": waiting.key, **waiting.members})
                    waiting = next(samples, None)
        yield (
            Shard(name=name, split=split, size=hashing.size, sha256=hashing.hash.hexdigest(), samples=len(rows)),
            rows,
        )
        number += 1


def _has_room(samples: int, size: int, sample: Sample, config: ShardsConfig) -> bool:
    added = sum(len(data) for data in sample.members.values())
    return samples == 0 or (samples < config.max_samples and size + added <= config.max_mb * 1024**2)
