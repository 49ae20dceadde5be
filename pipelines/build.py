"""A build from config to dataset, and a replay: the same decisions under other bounds, without touching a video."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from curation.manifest import Manifest, read_manifest
from pipelines import urls
from pipelines.card import dataset_card, dataset_json
from pipelines.chain import INGEST, Chain, check_weights, make_chain
from pipelines.decisions import decide_all
from pipelines.engine import Engine
from pipelines.interruption import stop_requests
from pipelines.observer import Observers
from pipelines.pack import DATASET, INDEX, Packed, pack, packed_before, sample_meta
from pipelines.plan import Plan, make_plan
from pipelines.progress import Progress
from pipelines.report import write_report
from pipelines.split import assign_splits
from pipelines.store import ClipStore
from pipelines.tally import Tally
from schemas.config import BuildConfig, RunConfig
from schemas.errors import ConfigError, DatasetError
from schemas.tables import SCHEMA_VERSION, decisions_schema, index_schema

DECISIONS, CARD, CONFIG = "decisions.parquet", "README.md", "config.json"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a build or a replay came to.

    `drops` and `failures` count clips (and failed recordings) by reason; `unfinished` clips pass the bounds of now,
    but stages have not run on them, counted by the first of them in `waiting`; `stage_seconds` is what this run
    spent, by stage; `unchanged` says that the dataset was there already, as it would have been written.
    """

    output: str
    kept: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    recordings: int = 0
    recordings_read: int = 0
    shards: int = 0
    unchanged: bool = False
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def unfinished(self) -> int:
        """Clips that have no verdict yet."""
        return self.waiting.total()

    @property
    def seen(self) -> int:
        """All clips and failed recordings."""
        return self.kept.total() + self.drops.total() + self.failures.total() + self.unfinished


def build(config: BuildConfig) -> Summary:
    """Run the whole job: read recordings, run the stages, write the dataset. Skips all that is stored already.

    Raises:
        VvtError: the manifest, the config or the weights are not right; nothing was started.

    """
    started = time.monotonic()
    config = _with_absolute_urls(config)
    chain = make_chain(config)
    manifest = read_manifest(config.manifest)
    check_weights(chain)
    urls.check_writable(config.output)
    urls.check_writable(config.work_url)
    store = ClipStore(config.work_url)
    plan = make_plan(manifest.pairs, chain, store, retry_failed=config.run.retry_failed)
    for key in plan.outdated:
        store.delete(key)
    spent: dict[str, float] = {}
    if plan.sources or plan.clips:
        spent = _work(plan, chain, store, config.run)
    return _write_dataset(config, chain, manifest, store, started=started, plan=plan, spent=spent)


def replay(config: BuildConfig) -> Summary:
    """Decide every stored clip anew under the bounds of `config`, and write the dataset that stays.

    Raises:
        VvtError: the manifest or the config is not right, or nothing was ever built in `config.work`.

    """
    started = time.monotonic()
    config = _with_absolute_urls(config)
    chain = make_chain(config)
    manifest = read_manifest(config.manifest)
    urls.check_writable(config.output)
    store = ClipStore(config.work_url)
    ledgers = [ledger for pair in manifest.pairs if (ledger := store.ledger(pair.pair_id))]
    if any(ledger.fingerprint != chain.fingerprints[INGEST] for ledger in ledgers):
        raise ConfigError(
            "`ingest` differs from what these clips were cut with",
            where="ingest",
            remedy="A replay decides, it cuts nothing: run `vvt build`",
        )
    if not ledgers:
        raise DatasetError(
            "no recording of this manifest was ever built here",
            where=store.url,
            remedy="Run `vvt build` first",
        )
    return _write_dataset(config, chain, manifest, store, started=started)


def stored_config(output: str) -> dict[str, Any]:
    """The config that the dataset in `output` was built with. Raises `DatasetError` where there is none."""
    data = urls.read(urls.join(output, CONFIG))
    if data is None:
        raise DatasetError("there is no built dataset", where=output, remedy="Name the output of a `vvt build`")
    try:
        config: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise DatasetError(
            f"this is no config: {error}", where=urls.join(output, CONFIG), remedy="Build anew"
        ) from error
    if config["work"] == urls.join(config["output"], "work"):  # still so, if the dataset was moved since
        config["work"] = urls.join(urls.absolute(output), "work")
    return config


@contextmanager
def ray_cluster(run: RunConfig) -> Iterator[None]:
    """Join the cluster that `run`, RAY_ADDRESS or an earlier `ray.init` names, else start one of this machine."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Ray 2.60 asks for a token, even on one machine
    address = run.address or os.environ.get("RAY_ADDRESS")
    try:
        ray.init(address=address, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address!r}: {error}",
            where="run.address or RAY_ADDRESS",
            allowed="`auto`, HOST:PORT of a running cluster, ray://HOST:PORT, or null for this machine alone",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _work(plan: Plan, chain: Chain, store: ClipStore, run: RunConfig) -> dict[str, float]:
    tally = Tally(sources=len(plan.sources), clips=len(plan.clips))
    progress = Progress(tally, every_seconds=run.log_every_seconds)
    with ray_cluster(run), progress, stop_requests() as stop:
        Engine(chain, store, run, observer=Observers([tally, progress])).run(plan.sources, plan.clips, stop=stop)
    return {stage: durations.seconds for stage, durations in tally.stages.items()}


def _write_dataset(
    config: BuildConfig,
    chain: Chain,
    manifest: Manifest,
    store: ClipStore,
    *,
    started: float,
    plan: Plan | None = None,
    spent: dict[str, float] | None = None,
) -> Summary:
    splits = assign_splits(manifest, config.split)
    rows: list[dict[str, Any]] = []
    waiting: Counter[str] = Counter()
    drops: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    keys: dict[str, str] = {}
    for verdict, row in decide_all(manifest.pairs, chain, store):
        row["video"] = manifest.as_written(row["video"])
        rows.append(row)
        if verdict == "kept":
            keys[row["key"]] = splits[row["pair_id"]]
        elif verdict == "dropped":
            drops[f"{row['stage']}.{row['metric']}"] += 1
        elif verdict == "failed":
            failures[f"{row['stage']}: {row['error_code']}"] += 1
        else:
            waiting[row["stage"]] += 1
    metrics = {name for row in rows for name in row["metrics"]}
    stages = [INGEST, *(stage.name for stage in chain.stages)]
    contents = _contents_hash(store, keys, config, stages=stages, manifest=manifest)
    before = urls.read(urls.join(config.output, DATASET))
    _write_parquet(urls.join(config.output, DECISIONS), rows, decisions_schema(metrics))
    reused = packed_before(config.output, contents)
    packed = reused or _repack(store, keys, config, manifest, stages=stages, metrics=metrics)
    described = dataset_json(config, chain, packed, contents=contents, drops=drops, failures=failures, seen=len(rows))
    after = json.dumps(described, indent=2).encode()
    urls.write_whole(urls.join(config.output, CARD), dataset_card(described, manifest).encode())
    urls.write_whole(urls.join(config.output, DATASET), after)
    write_report(config.output, described, rows, chain=chain)
    urls.write_whole(urls.join(config.output, CONFIG), config.model_dump_json(indent=2).encode())
    return Summary(
        output=config.output,
        kept=Counter(keys.values()),
        drops=drops,
        failures=failures,
        waiting=waiting,
        recordings=len(manifest.pairs),
        recordings_read=len(plan.sources) if plan else 0,
        shards=len(packed.shards),
        unchanged=reused is not None and before == after and not (plan and (plan.sources or plan.clips)),
        seconds=time.monotonic() - started,
        stage_seconds=spent or {},
    )


def _contents_hash(
    store: ClipStore, keys: dict[str, str], config: BuildConfig, *, stages: list[str], manifest: Manifest
) -> str:
    """Hash of all that the shards follow from, cheaper than writing them."""
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, config.name, config.shards.model_dump(mode="json")]).encode())
    for key, split in sorted(keys.items()):
        record = store.record(key)
        assert record is not None  # it was decided on a moment ago
        digest.update(
            f"{split} {sample_meta(record, stages=stages, as_written=manifest.as_written).model_dump_json()}\n".encode()
        )
    return digest.hexdigest()


def _repack(
    store: ClipStore,
    keys: dict[str, str],
    config: BuildConfig,
    manifest: Manifest,
    *,
    stages: list[str],
    metrics: set[str],
) -> Packed:
    fs, path = urls.filesystem(config.output)
    if fs.exists(f"{path}/{DATASET}"):
        fs.rm_file(f"{path}/{DATASET}")  # without it the folder is no dataset, until the last byte is written
    packed = pack(
        store, keys, output=config.output, config=config.shards, stages=stages, as_written=manifest.as_written
    )
    wanted = {shard.name for shard in packed.shards}
    if fs.isdir(f"{path}/shards"):
        for name in fs.ls(f"{path}/shards", detail=False):
            if f"shards/{name.rpartition('/')[2]}" not in wanted:
                fs.rm_file(name)
    _write_parquet(urls.join(config.output, INDEX), packed.rows, index_schema(metrics))
    return packed


def _write_parquet(url: str, rows: Any, schema: pa.Schema) -> None:
    with urls.open_whole(url) as stream:
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), stream, compression="zstd")


def _with_absolute_urls(config: BuildConfig) -> BuildConfig:
    output = urls.absolute(config.output)
    work = urls.absolute(config.work) if config.work else urls.join(output, "work")
    return config.model_copy(update={"manifest": urls.absolute(config.manifest), "output": output, "work": work})
