"""Where the time of a run went, which stage holds the others up, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from pipelines.chain import INGEST, Chain
from pipelines.tally import Tally

BUSY = 0.6  # a pool below this share of its time has room: what holds the run up is elsewhere


@dataclass(frozen=True, kw_only=True)
class StageProfile:
    """One stage: clips it ran on (of ingest: made), seconds in all, on average and at the 95th percentile."""

    stage: str
    pool: str
    clips: int
    seconds: float
    mean: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class PoolProfile:
    """Workers with equal resources: how many there were on average, and the share of their time spent in stages."""

    pool: str
    workers: float
    busy: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Where the `seconds` of the engine went. `driver` is the share of them that the driver itself was at work."""

    seconds: float
    driver: float
    stages: tuple[StageProfile, ...]
    pools: tuple[PoolProfile, ...]

    @property
    def bottleneck(self) -> StageProfile | None:
        """The longest stage of the busiest pool; None where no pool is busy, or nothing ran."""
        busiest = max(self.pools, key=lambda pool: pool.busy, default=None)
        if busiest is None or busiest.busy < BUSY:
            return None
        within = [stage for stage in self.stages if stage.pool == busiest.pool]
        return max(within, key=lambda stage: stage.seconds, default=None)


def make_profile(tally: Tally, chain: Chain, *, driver_seconds: float) -> Profile:
    """The profile of a run that has ended."""
    stages = tuple(
        StageProfile(
            stage=name, pool=chain.pools[name], clips=took.count, seconds=took.seconds, mean=took.mean,
            p95=took.percentile(0.95),
        )
        for name in chain.pools
        if (took := tally.stages.get(name))
    )  # fmt: skip
    pools = tuple(
        PoolProfile(
            pool=pool,
            workers=up / tally.seconds,
            busy=min(1.0, sum(stage.seconds for stage in stages if stage.pool == pool) / up),
        )
        for pool, up in tally.worker_seconds.items()
        if up > 0
    )
    return Profile(seconds=tally.seconds, driver=min(1.0, driver_seconds / tally.seconds), stages=stages, pools=pools)


def print_profile(profile: Profile, console: Console) -> None:
    """Print a row a stage, a line a pool, and what holds the run up."""
    total = sum(stage.seconds for stage in profile.stages)
    table = Table("stage", box=None, padding=(0, 2, 0, 0))
    for column in ("clips", "seconds", "share", "mean s", "p95 s", "clips/s a worker"):
        table.add_column(column, justify="right")
    for stage in sorted(profile.stages, key=lambda stage: -stage.seconds):
        rate = f"{1 / stage.mean:.2f}" if stage.mean else ""
        share = f"{stage.seconds / total:.0%}" if total else ""
        table.add_row(
            stage.stage, str(stage.clips), f"{stage.seconds:.1f}", share, f"{stage.mean:.3f}", f"{stage.p95:.3f}", rate
        )
    console.print(table)
    for pool in profile.pools:
        console.print(f"pool `{pool.pool}`: {pool.workers:.1f} workers, busy {pool.busy:.0%} of their time")
    console.print(f"driver: busy {profile.driver:.0%} of {profile.seconds:.0f} s")
    console.print(advice(profile), soft_wrap=True)


def advice(profile: Profile) -> str:
    """What holds the run up, and what to do, in a sentence or two."""
    slowest = profile.bottleneck
    if profile.driver > BUSY:
        return (
            "Bottleneck: the driver. Let calls be longer: give neighbouring stages equal resources, so that they share "
            "a worker, or divide the manifest over several outputs."
        )
    if slowest is None:
        return (
            "No bottleneck: the workers were idle most of the time. The run was short beside their start, or the "
            "store or a server was slow to answer."
        )
    pool = next(pool for pool in profile.pools if pool.pool == slowest.pool)
    share = slowest.seconds / sum(stage.seconds for stage in profile.stages if stage.pool == slowest.pool)
    words = f"Bottleneck: `{slowest.stage}`, {share:.0%} of the busiest pool's time ({pool.busy:.0%} busy). "
    if slowest.stage == INGEST:
        return f"{words}More CPUs read more recordings at once; recordings of one hour or less spread better."
    field = f"stages.{slowest.stage}.resources"
    return (
        f"{words}More nodes give it more workers; where it can use a GPU, `{field}.gpus` (a share such as 0.25) gives "
        "it a pool of its own. A cheaper filter before it that drops more saves the same."
    )
