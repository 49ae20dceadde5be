"""The chain of stages: made from the config, checked when read, fingerprinted, cut into groups that share a worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from curation.ingest import Ingest
from pipelines.stage_class import stage_class
from schemas.clip import Clip, Drop
from schemas.config import BuildConfig, SourcesConfig
from schemas.errors import ConfigError, WeightsError
from schemas.stage import Filter, Resources, Stage

INGEST = "ingest"
INGEST_GIVES = ("video", "source_pts")
RESERVED = {INGEST, "recording", "inputs"}  # what else has a fingerprint in a stored clip

_RECORDING: dict[str, str] = {
    "garment_image": "curation.filters.garment_image:GarmentImage",
    "resolution": "curation.filters.resolution:Resolution",
    "bitrate": "curation.filters.bitrate:Bitrate",
    "exposure": "curation.filters.exposure:Exposure",
    "borders": "curation.filters.borders:Borders",
    "motion": "curation.filters.motion:Motion",
    "freeze": "curation.filters.freeze:Freeze",
    "blur": "curation.filters.blur:Blur",
    "blockiness": "curation.filters.blockiness:Blockiness",
    "noise": "curation.filters.noise:Noise",
    "text": "curation.filters.text:BurnedInText",
}
_PERSON: dict[str, str] = {
    "person_screen": "curation.filters.person_screen:PersonScreen",
    "person_count": "curation.filters.person_count:PersonCount",
    "person_cut_off": "curation.filters.person_cut_off:PersonCutOff",
}
_INTERACTION: dict[str, str] = {
    "garment_occlusion": "curation.filters.garment_occlusion:GarmentOcclusion",
    "contact": "annotators.contact:ContactEvidence",
    "labels": "annotators.label:ContactLabels",
    "interaction": "annotators.interaction:InteractionShare",
}
_GARMENT: dict[str, str] = {
    "garment_crop": "preprocess.garment_crop:GarmentCrop",
    "garment_mask": "preprocess.garment:GarmentMask",
    "pair_match": "preprocess.pair_check.match:PairMatch",
}
_MASK: dict[str, str] = {
    "agnostic_mask": "preprocess.agnostic:AgnosticMask",
    "mask_quality": "preprocess.mask_quality:MaskQuality",
    "duplicates": "curation.duplicates.signature:Duplicates",
}
EMBEDDED: dict[str, str] = {
    **_RECORDING,
    "body": "preprocess.mediapipe_body:MediaPipeBody",
    **_PERSON,
    "parsing": "preprocess.parsing:SelfieParsing",
    **_INTERACTION,
    **_GARMENT,
    **_MASK,
}
"""Runs anywhere on CPU. Cheapest first: a clip that is dropped costs nothing after. Copies are sought among those
that are left."""
FULL: dict[str, str] = {
    **_RECORDING,
    "pose": "preprocess.dwpose.stage:DWPose",
    **_PERSON,
    "parsing": "preprocess.segmentation:Segmentation",
    "hands": "preprocess.hamer.stage:HamerHands",
    **_INTERACTION,
    "densepose": "preprocess.densepose.stage:DensePose",
    "missing_limbs": "preprocess.densepose.missing_limbs:MissingLimbs",
    "garment_track": "preprocess.garment_track:GarmentTrack",
    **_GARMENT,
    "pair_embedding": "preprocess.pair_check.embedding:PairMatchEmbedding",
    **_MASK,
}
"""What the papers use, on a GPU, with weights of the user's."""
TIERS: dict[str, dict[str, str]] = {"embedded": EMBEDDED, "full": FULL, "none": {}}


@dataclass(frozen=True)
class Group:
    """Neighbouring stages with equal resources; they run in one worker, one after the other."""

    first: int
    stages: tuple[Stage, ...]
    resources: Resources

    @property
    def end(self) -> int:
        """Index of the first stage after this group."""
        return self.first + len(self.stages)

    @property
    def batch_clips(self) -> int:
        """Most clips that one call hands to it."""
        return max(stage.batch_clips for stage in self.stages)


@dataclass(frozen=True)
class Standing:
    """How far a clip has come: the next stage to run (None: all that is needed has run), and the drop so far."""

    next_stage: int | None
    drop: Drop | None


@dataclass(frozen=True)
class Chain:
    """Ingest and the stages after it, in the order they run."""

    ingest: Ingest
    stages: tuple[Stage, ...]
    measure_all: bool = False
    sources: SourcesConfig = field(default_factory=SourcesConfig)

    @cached_property
    def takes_from(self) -> dict[str, tuple[str, ...]]:
        """Stage → the stages, ingest included, that give what it needs and uses."""
        taken: dict[str, tuple[str, ...]] = {}
        givers: dict[str, list[str]] = {name: [INGEST] for name in INGEST_GIVES}
        for stage in self.stages:
            taken[stage.name] = tuple(
                dict.fromkeys(giver for name in (*stage.needs, *stage.uses) for giver in givers.get(name, []))
            )
            for given in stage.gives:
                givers.setdefault(given, []).append(stage.name)
        return taken

    @cached_property
    def given(self) -> frozenset[str]:
        """Artifacts that ingest and the stages give."""
        return frozenset((*INGEST_GIVES, *(name for stage in self.stages for name in stage.gives)))

    def unused(self, stage: Stage) -> frozenset[str]:
        """Artifacts that `stage` would use but no stage before it gives: those of earlier runs are none of its."""
        before = self.stages[: self.stages.index(stage)]
        return frozenset(stage.uses).difference(INGEST_GIVES, *(other.gives for other in before))

    @cached_property
    def _own(self) -> dict[str, str]:
        return {stage.name: stage.own_fingerprint(_weights_sha256(stage)) for stage in self.stages}

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Stage → hash of all that its output depends on, the stages it takes artifacts from included."""
        made: dict[str, str] = {INGEST: self.ingest.fingerprint()}
        for stage in self.stages:
            made[stage.name] = self.fingerprint_over(stage, made)
        return made

    def fingerprint_over(self, stage: Stage, fingerprints: Mapping[str, str]) -> str:
        """Fingerprint of `stage`, as it is set now, had the stages it takes from these `fingerprints`."""
        upstream = sorted({fingerprints[giver] for giver in self.takes_from[stage.name] if giver in fingerprints})
        return hashlib.sha256(json.dumps([self._own[stage.name], upstream]).encode()).hexdigest()[:16]

    def identities(self) -> dict[str, dict[str, Any]]:
        """Fingerprint → what ingest or a stage is: class, version, fields, weights."""
        stages = {self.fingerprints[stage.name]: stage.identity(_weights_sha256(stage)) for stage in self.stages}
        return {self.fingerprints[INGEST]: self.ingest.identity(), **stages}

    @cached_property
    def resources(self) -> dict[str, Resources]:
        """Stage, ingest included → what a worker that runs it holds."""
        held = {INGEST: self.ingest.resources}
        before = Resources()
        for stage in self.stages:
            moves = not type(stage).light or stage.resources != Resources()
            before = held[stage.name] = stage.resources if moves else before
        return held

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The stages, neighbours with equal resources together."""
        groups: list[Group] = []
        for index, stage in enumerate(self.stages):
            resources = self.resources[stage.name]
            if groups and groups[-1].resources == resources:
                last = groups.pop()
                groups.append(Group(last.first, (*last.stages, stage), resources))
            else:
                groups.append(Group(index, (stage,), resources))
        return tuple(groups)

    @cached_property
    def pools(self) -> dict[str, str]:
        """Stage → name of the pool of workers that runs it: the first stage, ingest included, with equal resources."""
        names: dict[Resources, str] = {}
        return {stage: names.setdefault(resources, stage) for stage, resources in self.resources.items()}

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The stages that measure."""
        return tuple(stage for stage in self.stages if isinstance(stage, Filter))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all numbers that ingest and the filters measure."""
        return (*Ingest.metrics, *(name for stage in self.filters for name in type(stage).metrics))

    def ran(self, stage: str, clip: Clip) -> bool:
        """Whether `stage`, as it is set now, has run on `clip`."""
        return stage in self.fingerprints and clip.fingerprints.get(stage) == self.fingerprints[stage]

    def standing(self, clip: Clip) -> Standing:
        """Walk the chain over what is stored of `clip`, under the bounds of now."""
        drop = clip.drop if clip.drop and clip.drop.stage not in self.fingerprints else None
        for index, stage in enumerate(self.stages):
            if drop and not self.measure_all:
                break
            if not self.ran(stage.name, clip):
                return Standing(index, drop)
            if drop is None and isinstance(stage, Filter):
                drop = stage.decide(clip.metrics)
        return Standing(None, drop)

    def group_at(self, stage_index: int) -> Group:
        """The group that stage number `stage_index` is in."""
        return next(group for group in self.groups if group.first <= stage_index < group.end)


def make_chain(config: BuildConfig) -> Chain:
    """Build and check the chain of `config`.

    Raises:
        ConfigError: an unknown stage, field or class; an artifact that is needed but given by nobody before.

    """
    try:
        ingest = Ingest(**config.ingest)
    except ValidationError as error:
        raise _bad_fields("ingest", Ingest, error) from error
    specs = _ordered(TIERS[config.tier], config.stages)
    stages = tuple(_make_stage(name, spec) for name, spec in specs.items())
    tier = TIERS[config.tier]
    removed = {name: tier[name] for name, fields in config.stages.items() if fields is None and name in tier}
    _check_needs(stages, removed=removed)
    _check_metrics(stages)
    return Chain(ingest, stages, config.run.measure_all, config.sources)


def _ordered(defaults: Mapping[str, str], overrides: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    specs: dict[str, dict[str, Any]] = {name: {"use": path} for name, path in defaults.items()}
    for name, fields in overrides.items():
        if fields is None:
            specs.pop(name, None)
            continue
        if name not in specs and "use" not in fields:
            near = get_close_matches(name, specs, n=1)
            raise ConfigError(
                f"there is no stage {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                where=f"stages.{name}",
                allowed=", ".join(specs),
                remedy="A stage of your own needs `use: module:Class`",
            )
        if name in RESERVED or "name" in fields:
            raise ConfigError(
                f"a stage cannot be called {name!r}" if name in RESERVED else "a stage is named by its key",
                where=f"stages.{name}",
                remedy="Rename the key under `stages`",
            )
        fields = dict(fields)
        place = {side: fields.pop(side) for side in ("before", "after") if side in fields}
        specs[name] = {**specs.get(name, {}), **fields}
        if place:
            specs = _moved(specs, name, **place)
    return specs


def _moved(
    specs: dict[str, dict[str, Any]], name: str, *, before: str | None = None, after: str | None = None
) -> dict[str, dict[str, Any]]:
    anchor = before or after
    others = [other for other in specs if other != name]
    if (before and after) or anchor not in others:
        raise ConfigError(
            f"cannot place the stage {f'before {before!r}' if before else ''}{f' after {after!r}' if after else ''}",
            where=f"stages.{name}", allowed=f"one of `before` and `after`, with one of {', '.join(others)}",
        )  # fmt: skip
    others.insert(others.index(anchor) + (0 if before else 1), name)
    return {other: specs[other] for other in others}


def _make_stage(name: str, spec: dict[str, Any]) -> Stage:
    fields = dict(spec)
    kind = stage_class(fields.pop("use"), where=f"stages.{name}.use")
    try:
        return kind(name=name, **fields)
    except ValidationError as error:
        raise _bad_fields(f"stages.{name}", kind, error) from error


def _bad_fields(where: str, kind: type[BaseModel], error: ValidationError) -> ConfigError:
    words = "; ".join(
        f"{'.'.join(str(part) for part in detail['loc']) or 'value'}: {detail['msg'].removeprefix('Value error, ')}"
        for detail in error.errors(include_url=False)
    )
    fields = ", ".join(name for name in kind.model_fields if name != "name")
    return ConfigError(words, where=where, allowed=f"the fields of {kind.__name__}: {fields}")


def _check_needs(stages: tuple[Stage, ...], *, removed: Mapping[str, str]) -> None:
    gone = {name: stage_class(path, where=name).gives for name, path in removed.items()}
    given = set(INGEST_GIVES)
    for stage in stages:
        for need in stage.needs:
            if need not in given:
                later = [f"{other.name!r} gives it, but runs later" for other in stages if need in other.gives]
                absent = [f"{name!r} gives it, but the config removes it" for name in gone if need in gone[name]]
                remedy = next(iter([*later, *absent]), "Add a stage that gives it")
                raise ConfigError(
                    f"stage {stage.name!r} needs {need!r}, which no stage before it gives",
                    where=f"stages.{stage.name}", allowed=", ".join(sorted(given)), remedy=remedy,
                )  # fmt: skip
        given |= set(stage.gives)


def _check_metrics(stages: tuple[Stage, ...]) -> None:
    owner: dict[str, str] = {}
    for stage in stages:
        for metric in type(stage).metrics if isinstance(stage, Filter) else ():
            if metric in owner:
                raise ConfigError(
                    f"stages {owner[metric]!r} and {stage.name!r} both measure {metric!r}",
                    where=f"stages.{stage.name}",
                    remedy="Metrics are known by their names alone: rename one",
                )
            owner[metric] = stage.name


def _weights_sha256(stage: Stage) -> dict[str, str]:
    import weights

    return {name: weights.sha256(name) for name in stage.model_files}


def check_weights(chain: Chain) -> None:
    """Raise `WeightsError` naming every weights file that a stage needs and this machine lacks."""
    import weights

    missing: dict[str, list[str]] = {}
    for stage in chain.stages:
        for name in stage.model_files:
            try:
                weights.path(name)
            except WeightsError as error:
                missing.setdefault(str(error), []).append(stage.name)
    if missing:
        words = "; ".join(f"{error} (for {', '.join(stages)})" for error, stages in missing.items())
        raise WeightsError(words, remedy="Fetch them: `vvt models pull`")
