"""A build from config to dataset, and a replay: the same decisions under other bounds, without touching a video."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray

from curation.manifest import Manifest, read_manifest
from media.sources import held_to
from pipelines import urls
from pipelines.chain import INGEST, Chain, check_weights, make_chain
from pipelines.dataset import CONFIG, Counts, write_dataset
from pipelines.engine import Engine
from pipelines.explain import StageWork, explain, remember_settings
from pipelines.interruption import stop_requests
from pipelines.jobs import SourceJob
from pipelines.live import LiveFeed
from pipelines.live_ledger import TO_CAPTURE, Capturing, captured
from pipelines.lock import DriverLock
from pipelines.lookahead import in_order
from pipelines.plan import Plan, make_plan
from pipelines.profile import Profile, make_profile
from pipelines.store import ClipStore
from pipelines.watch import Watch
from schemas.config import BuildConfig, RunConfig
from schemas.errors import ConfigError, DatasetError
from schemas.manifest import Pair


@dataclass(frozen=True, kw_only=True)
class Summary(Counts):
    """What a build or a replay came to.

    `profile` says where the time of the engine went, if it had work; `unchanged` that the dataset was there already,
    as it would have been written.
    """

    output: str
    recordings: int = 0
    recordings_read: int = 0
    shards: int = 0
    unchanged: bool = False
    seconds: float = 0.0
    profile: Profile | None = None


def build(config: BuildConfig) -> Summary:
    """Run the whole job: read recordings, run the stages, write the dataset. Skips all that is stored already.

    Raises:
        VvtError: the manifest, the config or the weights are not right; nothing was started.
        LockedError: another driver is at work in the output or the clip store.

    """
    started = time.monotonic()
    config = _with_absolute_urls(config)
    chain = make_chain(config)
    manifest = read_manifest(config.manifest, sources=config.sources)
    check_weights(chain)
    urls.check_writable(config.output)
    urls.check_writable(config.work_url)
    store = ClipStore(config.work_url)
    with DriverLock(config.output, config.work_url) as lock, Watch(config, lock) as watch:
        live = captured(manifest, store.url)
        streams = live.to_capture(manifest, retry_failed=config.run.retry_failed)
        with held_to(config.sources):
            plan = make_plan(live.recordings, chain, store, retry_failed=config.run.retry_failed, remember=True)
        remember_settings(chain, store)
        for _ in in_order(store.delete, plan.outdated):
            pass
        profile = None
        if plan.sources or plan.clips or streams:
            profile = _work(plan, chain, store, config, watch, streams=streams)
        store.sweep()
        watch.writing()
        return _write_dataset(config, chain, manifest, store, lock, started=started, plan=plan, profile=profile)


def plan_build(config: BuildConfig) -> tuple[Plan, list[StageWork]]:
    """What `build` would do, and why, without doing or writing anything. Raises like `build`."""
    config = _with_absolute_urls(config)
    chain = make_chain(config)
    manifest = read_manifest(config.manifest, sources=config.sources)
    store = ClipStore(config.work_url)
    live = captured(manifest, store.url)
    with held_to(config.sources):
        plan = make_plan(live.recordings, chain, store, retry_failed=config.run.retry_failed)
    streams = live.to_capture(manifest, retry_failed=config.run.retry_failed)
    plan = replace(plan, reasons={**plan.reasons, **dict.fromkeys((pair.pair_id for pair in streams), TO_CAPTURE)})
    return plan, explain(plan, chain, store)


def replay(config: BuildConfig) -> Summary:
    """Decide every stored clip anew under the bounds of `config`, and write the dataset that stays.

    Raises:
        VvtError: the manifest or the config is not right, or nothing was ever built in `config.work`.

    """
    started = time.monotonic()
    config = _with_absolute_urls(config)
    chain = make_chain(config)
    manifest = read_manifest(config.manifest, sources=config.sources)
    urls.check_writable(config.output)
    store = ClipStore(config.work_url)
    rows = captured(manifest, store.url).recordings
    ledgers = in_order(store.ledger, (pair.pair_id for pair in rows))
    cut_by = {ledger.fingerprint for ledger in ledgers if ledger}
    if cut_by - {chain.fingerprints[INGEST]}:
        raise ConfigError(
            "`ingest` differs from what these clips were cut with",
            where="ingest",
            remedy="A replay decides, it cuts nothing: run `vvt build`",
        )
    if not cut_by:
        raise DatasetError(
            "no recording of this manifest was ever built here",
            where=store.url,
            remedy="Run `vvt build` first",
        )
    with DriverLock(config.output, config.work_url) as lock:
        return _write_dataset(config, chain, manifest, store, lock, started=started)


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


def _work(
    plan: Plan, chain: Chain, store: ClipStore, config: BuildConfig, watch: Watch, *, streams: Sequence[Capturing]
) -> Profile:
    def sources_of(pairs: Sequence[Pair]) -> Sequence[SourceJob]:
        with held_to(config.sources):
            return make_plan(pairs, chain, store).sources

    with ray_cluster(config.run), watch.engine(plan) as observer, stop_requests() as stop:
        engine = Engine(chain, store, config.run, observer=observer)
        feed = LiveFeed(streams, config.live, config.sources, store.url, sources_of=sources_of)
        engine.run(plan.sources, plan.clips, feeds=[feed], stop=stop)
    return make_profile(watch.tally, chain, driver_seconds=watch.driver_seconds)


def _write_dataset(
    config: BuildConfig,
    chain: Chain,
    manifest: Manifest,
    store: ClipStore,
    lock: DriverLock,
    *,
    started: float,
    plan: Plan | None = None,
    profile: Profile | None = None,
) -> Summary:
    live = captured(manifest, store.url)
    written = write_dataset(config, chain, live.manifest, store, ledgers=live.ledgers, checkpoint=lock.check)
    return Summary(
        **vars(written.counts),
        output=config.output,
        recordings=len(live.manifest.pairs),
        recordings_read=len(plan.sources) if plan else 0,
        shards=written.shards,
        unchanged=written.unchanged and not (plan and (plan.sources or plan.clips)),
        seconds=time.monotonic() - started,
        profile=profile,
    )


def _with_absolute_urls(config: BuildConfig) -> BuildConfig:
    output = urls.absolute(config.output)
    work = urls.absolute(config.work) if config.work else urls.join(output, "work")
    return config.model_copy(update={"manifest": urls.absolute(config.manifest), "output": output, "work": work})
