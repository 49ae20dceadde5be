"""Validate a written dataset: `vvt validate OUT`. Every byte is read, every member decoded, every video played."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError

from pipelines import urls
from pipelines.validate_shard import Problem, ShardReport, check_shard, rows_beside, sidecar_members
from schemas.artifacts import ARTIFACTS
from schemas.errors import DatasetError
from schemas.tables import META_MEMBER, SCHEMA_VERSION, SHARD_NAME, SIDECAR_SHARD_NAME, beside, index_schema

DATASET, INDEX = "dataset.json", "index.parquet"
REQUIRED = {META_MEMBER, *(kind.member for kind in ARTIFACTS.values() if kind.shared and kind.required)}

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was read, and all that is wrong with it."""

    shards: int
    samples: int
    members: int
    frames: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class _Shard(BaseModel):
    name: str = Field(pattern=f"^{SHARD_NAME}$")
    split: str
    size: int
    sha256: str
    samples: int


class _SidecarShard(_Shard):
    name: str = Field(pattern=f"^{SIDECAR_SHARD_NAME}$")


class _Split(BaseModel):
    samples: int


class _Dataset(BaseModel):
    """What `dataset.json` promises; what else it says is for people."""

    schema_version: int
    splits: dict[str, _Split]
    members: list[str]
    shards: list[_Shard]
    sidecars: dict[Literal["latents"], list[_SidecarShard]] = {}


def validate(out: str, *, workers: int | None = None) -> Report:
    """Check the dataset at `out` (folder or fsspec URL) against what it says of itself and against the schema.

    Every shard named is there, with its size and sha256; every sample of the index is in its shard at its offset, and
    no other is; every member is there, has its size and sha256, decodes by its codec and fits its clip; every video
    decodes to the frames, size and constant rate that its record says; index, annotation and record agree; no sample
    is there twice, and no group, recording or sample is in both splits. The same of sidecars.

    Args:
        out: what `vvt build` wrote.
        workers: shards read at once; each holds one sample in memory. None: one a core.

    Raises:
        DatasetError: there is no dataset, or it is of another version.

    """
    dataset = _read_dataset(out)
    rows = _read_index(out, sidecars=dataset.sidecars)
    by_shard: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_shard[row["shard"]].append(row)

    def check(shard: _Shard, rows: Sequence[Row], required: Collection[str]) -> ShardReport:
        return check_shard(
            urls.join(out, shard.name),
            rows,
            name=shard.name,
            size=shard.size,
            sha256=shard.sha256,
            required=frozenset(required),
        )

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        main = [
            pool.submit(check, shard, by_shard[shard.name], REQUIRED & {*dataset.members}) for shard in dataset.shards
        ]
        others = [
            pool.submit(check, shard, rows_beside(by_shard[of.name], name), sidecar_members(name))
            for name, shards in dataset.sidecars.items()
            for of, shard in zip(dataset.shards, shards, strict=False)
        ]
        reports, reports_beside = [each.result() for each in main], [each.result() for each in others]
    problems = [
        *_check_description(dataset),
        *_check_files(out, dataset),
        *_check_counts(dataset, rows),
        *_check_sidecars(dataset),
        *_check_keys(rows),
        *_check_groups(rows, reports),
        *(problem for report in (*reports, *reports_beside) for problem in report.problems),
    ]
    return Report(
        shards=len(dataset.shards),
        samples=sum(report.samples for report in reports),
        members=sum(report.members for report in (*reports, *reports_beside)),
        frames=sum(report.frames for report in reports),
        problems=tuple(problems),
    )


def _read_dataset(out: str) -> _Dataset:
    url = urls.join(out, DATASET)
    data = urls.read(url)
    if data is None:
        raise DatasetError("there is no dataset, or it was never finished", where=url, remedy="Run `vvt build`.")
    try:
        described = json.loads(data)
        version = described["schema_version"]
        if version == SCHEMA_VERSION:
            return _Dataset.model_validate(described)
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise DatasetError(f"this describes no dataset: {error}", where=url, remedy="Build it anew.") from error
    raise DatasetError(
        f"the dataset has schema version {version}", where=url, allowed=str(SCHEMA_VERSION), remedy="Build it anew."
    )


def _read_index(out: str, *, sidecars: Iterable[str]) -> list[Row]:
    url = urls.join(out, INDEX)
    try:
        with urls.open_read(url) as stream:
            table = pq.read_table(stream, use_threads=False)  # threads: pyarrow 26 may abort when Python ends
    except FileNotFoundError:
        raise DatasetError("there is no index", where=url, remedy="Build the dataset anew.") from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"the index is damaged: {error}", where=url, remedy="Build the dataset anew.") from error
    schema = index_schema((), sidecars=sidecars)
    wanted = schema.remove(len(schema) - 1)  # `metrics` depends on the stages
    have = {field.name: field.type for field in table.schema}
    faults = [f"{field.name} ({field.type})" for field in wanted if have.get(field.name) != field.type]
    if "metrics" not in have or not pa.types.is_struct(have["metrics"]):
        faults.append("metrics (struct)")
    if faults:
        raise DatasetError(
            f"the index lacks columns, or has them in another type: {', '.join(faults)}",
            where=url,
            remedy="Build the dataset anew.",
        )
    rows: list[Row] = table.to_pylist()
    return rows


def _check_description(dataset: _Dataset) -> Iterator[Problem]:
    if missing := sorted(REQUIRED - {*dataset.members}):
        yield Problem(DATASET, f"samples were built without {', '.join(missing)}, which every sample must have")
    for name, count in Counter(shard.name for shard in dataset.shards).items():
        if count > 1:
            yield Problem(DATASET, f"names {name} {count} times")


def _check_files(out: str, dataset: _Dataset) -> Iterator[Problem]:
    """Shards that nobody names: a reader that takes all of `shards/*.tar` would read them."""
    known = {shard.name for shard in chain(dataset.shards, *dataset.sidecars.values())}
    for folder in ("shards", *(name for name, kind in ARTIFACTS.items() if kind.sidecar)):
        names = {f"{folder}/{name}" for name in urls.files_in(urls.join(out, folder)) if name.endswith(".tar")}
        for name in sorted(names - known):
            yield Problem(name, f"is there, but {DATASET} does not name it")


def _check_sidecars(dataset: _Dataset) -> Iterator[Problem]:
    """Each has a shard beside every shard, with the same samples."""
    for name, shards in dataset.sidecars.items():
        wanted = [(beside(shard.name, name), shard.samples) for shard in dataset.shards]
        if wanted != (found := [(shard.name, shard.samples) for shard in shards]):
            odd = sorted({*wanted} ^ {*found})
            yield Problem(DATASET, f"sidecar {name} has not the samples of the shards: {', '.join(map(str, odd))}")


def _check_counts(dataset: _Dataset, rows: list[Row]) -> Iterator[Problem]:
    splits = {shard.name: shard.split for shard in dataset.shards}
    in_shard = Counter(row["shard"] for row in rows)
    for name in sorted(in_shard.keys() - splits.keys()):
        yield Problem(INDEX, f"{in_shard[name]} sample(s) are said to be in {name}, which {DATASET} does not name")
    for shard in dataset.shards:
        if shard.samples != in_shard[shard.name]:
            yield Problem(DATASET, f"{shard.name} has {shard.samples} sample(s), in {INDEX} {in_shard[shard.name]}")
    for row in rows:
        if row["shard"] in splits and row["split"] != splits[row["shard"]]:
            yield Problem(INDEX, f"{row['key']} is of split {row['split']}, {row['shard']} of {splits[row['shard']]}")
    in_split = Counter(row["split"] for row in rows)
    for split in sorted(dataset.splits.keys() | in_split.keys()):
        said = dataset.splits[split].samples if split in dataset.splits else 0
        if said != in_split[split]:
            yield Problem(DATASET, f"split {split} has {said} sample(s), in {INDEX} {in_split[split]}")


def _check_keys(rows: list[Row]) -> Iterator[Problem]:
    places = _sides((row["key"], f"{row['split']} ({row['shard']})") for row in rows)
    for key, count in Counter(row["key"] for row in rows).items():
        if count > 1:
            yield Problem(INDEX, f"{key} is there {count} times: {', '.join(sorted(places[key]))}")


def _check_groups(rows: list[Row], reports: list[ShardReport]) -> Iterator[Problem]:
    """What must not be shared between train and test: a `split_group`, a pair, a recording."""
    splits = {row["key"]: row["split"] for row in rows}
    recordings = [(video, splits[key]) for report in reports for key, video in report.recordings if key in splits]
    kinds = {
        "split group": ((row["split_group"], row["split"]) for row in rows if row["split_group"] is not None),
        "pair": ((row["pair_id"], row["split"]) for row in rows),
        "recording": recordings,
    }
    for kind, pairs in kinds.items():
        for name, sides in _sides(pairs).items():
            if len(sides) > 1:
                yield Problem(INDEX, f"{kind} {name} is in {' and '.join(sorted(sides))}")


def _sides(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    sides: defaultdict[str, set[str]] = defaultdict(set)
    for name, side in pairs:
        sides[name].add(side)
    return sides
