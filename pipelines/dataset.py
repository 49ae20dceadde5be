"""Write the dataset from the clip store: decide on every clip, pack those that stay, describe what came of it.

The store is passed through once to decide and once to pack, and once before where clips are compared with each other.
Memory holds the keys of the clips that stay, their signatures meanwhile, and no more.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from curation.manifest import Manifest
from pipelines import urls
from pipelines.card import dataset_card, dataset_json, members_given, sidecars_given
from pipelines.chain import INGEST, Chain
from pipelines.decisions import decide_all
from pipelines.duplicates import judge_copies, shared_footage
from pipelines.live_ledger import LiveLedger
from pipelines.pack import DATASET, Packed, pack, packed_before, sample_meta
from pipelines.report import write_report
from pipelines.split import assign_splits
from pipelines.store import ClipStore
from pipelines.tables import DECISIONS, table_writer
from schemas.artifacts import ARTIFACTS
from schemas.config import BuildConfig
from schemas.tables import SCHEMA_VERSION, decisions_schema

CARD, CONFIG = "README.md", "config.json"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Clips and failed recordings by what became of them.

    Attributes:
        kept: by split.
        drops: by stage and metric.
        failures: by stage and error code.
        waiting: those without a verdict, by the stage that has not run on them.

    """

    kept: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)

    @property
    def unfinished(self) -> int:
        """Clips that have no verdict yet."""
        return self.waiting.total()

    @property
    def seen(self) -> int:
        """All clips and failed recordings."""
        return self.kept.total() + self.drops.total() + self.failures.total() + self.unfinished

    def add(self, row: Mapping[str, Any], *, split: str) -> None:
        """Count a row of the decisions."""
        if row["verdict"] == "kept":
            self.kept[split] += 1
        elif row["verdict"] == "dropped":
            self.drops[f"{row['stage']}.{row['metric']}"] += 1
        elif row["verdict"] == "failed":
            self.failures[f"{row['stage']}: {row['error_code']}"] += 1
        else:
            self.waiting[row["stage"]] += 1


@dataclass(frozen=True, kw_only=True)
class Written:
    """A written dataset. `unchanged` says that it was there already, as it would have been written."""

    counts: Counts
    shards: int
    unchanged: bool


def write_dataset(
    config: BuildConfig,
    chain: Chain,
    manifest: Manifest,
    store: ClipStore,
    *,
    ledgers: Mapping[str, LiveLedger],
    checkpoint: Callable[[], None],
) -> Written:
    """Write, or bring up to date, the dataset at `config.output`.

    `ledgers` are those of the live rows; `checkpoint` is called every now and then, and raises to stop.
    """
    before = urls.read(urls.join(config.output, DATASET))
    counts, keys, contents = _decide(config, chain, manifest, store, checkpoint=checkpoint)
    reused = packed_before(config.output, contents)
    packed = reused or _repack(config, chain, manifest, store, keys=keys, checkpoint=checkpoint)
    checkpoint()
    described = dataset_json(
        config, chain, packed, contents=contents, drops=counts.drops, failures=counts.failures, seen=counts.seen
    )
    if ledgers:
        described["live"] = [ledger.facts() for _, ledger in sorted(ledgers.items())]
    after = json.dumps(described, indent=2).encode()
    urls.write_whole(urls.join(config.output, CARD), dataset_card(described, manifest).encode())
    urls.write_whole(urls.join(config.output, DATASET), after)
    write_report(config.output, described, chain=chain)
    urls.write_whole(urls.join(config.output, CONFIG), config.model_dump_json(indent=2).encode())
    return Written(counts=counts, shards=len(packed.shards), unchanged=reused is not None and before == after)


def _decide(
    config: BuildConfig, chain: Chain, manifest: Manifest, store: ClipStore, *, checkpoint: Callable[[], None]
) -> tuple[Counts, dict[str, list[str]], str]:
    """Write `decisions.parquet`. The counts, the keys that stay by split, and a hash of all that the shards are."""
    shared, apart = shared_footage(manifest.pairs, chain, store), sidecar_stages(chain)
    splits = assign_splits(manifest, config.split, shared=shared.links)
    counts, keys = Counts(), defaultdict[str, list[str]](list)
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, config.name, config.shards.model_dump(mode="json")]).encode())
    with table_writer(urls.join(config.output, DECISIONS), decisions_schema(chain.metrics)) as write_row:
        for decision in judge_copies(decide_all(manifest.pairs, chain, store), chain, shared):
            checkpoint()
            row, split = decision.row, splits[decision.row["pair_id"]]
            write_row({**row, "video": manifest.as_written(row["video"])})
            counts.add(row, split=split)
            if decision.verdict == "kept" and decision.clip:
                keys[split].append(row["key"])
                meta = sample_meta(decision.clip, stages=stage_names(chain), as_written=manifest.as_written)
                digest.update(f"{split} {meta.model_dump_json()}\n".encode())
                digest.update("".join(f"{decision.clip.fingerprints[name]}\n" for name in apart).encode())
    return counts, {split: sorted(chosen) for split, chosen in keys.items()}, digest.hexdigest()


def _repack(
    config: BuildConfig,
    chain: Chain,
    manifest: Manifest,
    store: ClipStore,
    *,
    keys: Mapping[str, list[str]],
    checkpoint: Callable[[], None],
) -> Packed:
    urls.delete(urls.join(config.output, DATASET))  # without it the folder is no dataset, until all is written
    packed = pack(
        store,
        {split: _checked(chosen, checkpoint) for split, chosen in keys.items()},
        output=config.output,
        config=config.shards,
        members=members_given(chain),
        stages=stage_names(chain),
        metrics=chain.metrics,
        as_written=manifest.as_written,
        sidecars=sidecars_given(chain),
    )
    wanted = {shard.name for shard in itertools.chain(packed.shards, *packed.sidecars.values())}
    for folder in ("shards", *(name for name, kind in ARTIFACTS.items() if kind.sidecar)):
        for name in urls.files_in(urls.join(config.output, folder)):
            if f"{folder}/{name}" not in wanted:
                urls.delete(urls.join(config.output, folder, name))
    return packed


def _checked(keys: Iterable[str], checkpoint: Callable[[], None]) -> Iterator[str]:
    for key in keys:
        checkpoint()
        yield key


def stage_names(chain: Chain) -> list[str]:
    """Stages whose fingerprints a sample carries: not those that only give sidecars, which leave it as it is."""
    return [INGEST, *(stage.name for stage in chain.stages if stage.name not in sidecar_stages(chain))]


def sidecar_stages(chain: Chain) -> list[str]:
    """Stages that give nothing but sidecars."""
    return [
        stage.name for stage in chain.stages if stage.gives and all(ARTIFACTS[name].sidecar for name in stage.gives)
    ]
