"""Artifacts that a stage takes where they are given, and stages that stay in the worker of those before them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from pipelines.chain import make_chain
from schemas.clip import Clip
from schemas.config import BuildConfig
from schemas.stage import Resources, Stage
from tests.pipelines.conftest import Job

HERE = "tests.pipelines.test_chain"


def maps(clip: Clip, value: int) -> np.ndarray:
    return np.full((clip.span.frames, clip.span.height, clip.span.width), value, np.uint8)


class Parts(Stage):
    gives: ClassVar[tuple[str, ...]] = ("densepose",)
    part: int = 2

    def process(self, clip: Clip) -> None:
        clip.artifacts["densepose"] = maps(clip, self.part)


class Masked(Stage):
    """All is masked where there are parts, else nothing."""

    uses: ClassVar[tuple[str, ...]] = ("densepose",)
    gives: ClassVar[tuple[str, ...]] = ("agnostic_mask",)

    def process(self, clip: Clip) -> None:
        parts = clip.artifacts.get("densepose", maps(clip, 0))
        clip.artifacts["agnostic_mask"] = parts > 0


class Light(Stage):
    light: ClassVar[bool] = True

    def process(self, clip: Clip) -> None: ...


class OnGpu(Light):
    light: ClassVar[bool] = False
    resources: Resources = Resources(gpus=0.5)


PARTS, MASKED = {"parts": {"use": f"{HERE}:Parts"}}, {"masked": {"use": f"{HERE}:Masked"}}


def test_an_artifact_is_used_while_a_stage_gives_it(job: Job) -> None:
    job.record("a")
    job.build(stages=PARTS | MASKED)
    with_parts = job.shards()
    job.build(stages=MASKED)  # the store still holds the parts: they are none of this chain's
    without = job.shards()
    assert without != with_parts
    assert not any("densepose" in member for shard in without.values() for member in shard)
    job.build("fresh", stages=MASKED)
    assert without == job.shards("fresh")
    job.build(stages=PARTS | MASKED)
    assert job.shards() == with_parts


def test_what_is_used_is_part_of_the_fingerprint() -> None:
    def fingerprint(**stages: dict[str, object]) -> str:
        return make_chain(BuildConfig(manifest="-", output="-", tier="none", stages=stages)).fingerprints["masked"]

    alone, after = fingerprint(**MASKED), fingerprint(**PARTS, **MASKED)
    other = fingerprint(parts={**PARTS["parts"], "part": 3}, **MASKED)
    assert len({alone, after, other}) == 3
    assert fingerprint(**MASKED, **PARTS) == alone  # given too late


def test_a_light_stage_stays_with_the_one_before_it() -> None:
    light, gpu = {"use": f"{HERE}:Light"}, {"use": f"{HERE}:OnGpu"}
    own = {**light, "resources": {"cpus": 2}}
    stages = {"first": light, "model": gpu, "sums": light, "model2": gpu, "own": own, "last": light}
    chain = make_chain(BuildConfig(manifest="-", output="-", tier="none", stages=stages))
    names = [[stage.name for stage in group.stages] for group in chain.groups]
    assert names == [["first"], ["model", "sums", "model2"], ["own", "last"]]
    assert chain.pools == {
        "ingest": "ingest",
        "first": "ingest",
        "model": "model",
        "sums": "model",
        "model2": "model",
    } | {
        "own": "own",
        "last": "own",
    }
