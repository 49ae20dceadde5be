"""Pack the clip store into shards. Same store and config: byte-identical tars, however they came to be stored.

OUT/shards/{train,test}-000000.tar, index.parquet, decisions.parquet, dataset.json, README.md
OUT/latents/{train,test}-000000.tar, where there are such: a sidecar, the same samples under the same names
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

from pipelines import urls
from pipelines.lookahead import in_order
from pipelines.shard_writer import MAIN, Sample, Shard, write_shards
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
    """What packing wrote: the shards, what the samples of each split add up to, and the shards of each sidecar."""

    shards: tuple[Shard, ...]
    splits: Mapping[str, SplitTotals]
    sidecars: Mapping[str, tuple[Shard, ...]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(shard.samples for shard in self.shards)


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
    sidecars: Sequence[str] = (),
) -> Packed:
    """Write the clips `keys` (of each split, in their order) as shards and `index.parquet` under `output`.

    `members` and `stages` name the members, and the stages whose fingerprints, belong to the dataset, `metrics` the
    columns of the index; `as_written` takes an absolute URL back to what the manifest said. `sidecars` are artifacts
    that get shards of their own; the others are the same with them and without.

    Raises:
        DatasetError: a clip is not in the store, or its file is damaged.

    """
    shards: list[dict[str, Shard]] = []
    splits = {split: SplitTotals() for split in SPLITS}
    with table_writer(urls.join(output, INDEX), index_schema(metrics, sidecars=sidecars)) as write_row:
        for split, chosen in sorted(keys.items()):
            make = partial(
                make_sample, store, split=split, wanted=members, stages=stages, as_written=as_written, sidecars=sidecars
            )
            samples = in_order(make, chosen)
            for written, rows in write_shards(samples, output=output, split=split, config=config, sidecars=sidecars):
                shards.append(written)
                for row in rows:
                    splits[split].add(row)
                    write_row(row)
    main = tuple(written[MAIN] for written in shards)
    return Packed(main, splits, {name: tuple(written[name] for written in shards) for name in sidecars})


def packed_before(output: str, contents: str) -> Packed | None:
    """What is packed in `output` already, if it was made of the same `contents` (a hash) and every file is there."""
    try:
        described = json.loads(urls.read(urls.join(output, DATASET)) or b"{}")
        if (described.get("schema_version"), described.get("contents")) != (SCHEMA_VERSION, contents):
            return None
        splits = {split: SplitTotals(**totals) for split, totals in described["splits"].items()}
        sidecars = described.get("sidecars", {}).items()
        packed = Packed(
            tuple(Shard(**shard) for shard in described["shards"]),
            splits,
            {name: tuple(Shard(**shard) for shard in shards) for name, shards in sidecars},
        )
        with open_table(urls.join(output, INDEX)) as index:
            rows = index.metadata.num_rows
    except (ValueError, TypeError, KeyError, AttributeError, DatasetError):  # damaged: it is written anew
        return None
    every = chain(packed.shards, *packed.sidecars.values())
    there = all(urls.size(urls.join(output, shard.name)) == shard.size for shard in every)
    return packed if there and rows == packed.samples else None


def make_sample(
    store: ClipStore,
    key: str,
    *,
    split: str,
    wanted: Sequence[str],
    stages: Sequence[str],
    as_written: AsWritten,
    sidecars: Sequence[str] = (),
) -> Sample:
    """The sample of one stored clip: its `wanted` members as stored, `meta.json`, and what goes to `sidecars`."""
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
    apart = {name: stored[ARTIFACTS[name].member] for name in sidecars if ARTIFACTS[name].member in stored}
    return Sample(key, members, apart, _index_row(clip, members, annotation=annotation, split=split))


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
