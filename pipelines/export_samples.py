"""A built dataset in another project's layout, sample by sample, resumable."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from media.sources import is_local
from pipelines import urls
from pipelines.export_vivid import SUBDIRS, Item, VividFolder
from pipelines.tables import INDEX, open_table, read_rows
from schemas.annotation import ActionCaption
from schemas.errors import ConfigError, DatasetError
from schemas.manifest import Part
from training.fit import Size
from training.shards import read_index

MARKER = "export.json"
VIVID_SIZE: Size = (832, 624)
_COLUMNS = ("key", "part", "pair_id", "frames", "global_caption", "actions", "licence")
_REMEDY = "Name an empty folder"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export did: samples written, there before, and skipped as damaged."""

    written: int
    before: int
    skipped: int


def export_vivid(
    dataset: str,
    to: str,
    *,
    split: str = "train",
    size: Size = VIVID_SIZE,
    densepose: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    workers: int = 1,
) -> Exported:
    """Write the samples of a split as ViViD lays them out; both splits may go to the same folder.

    Memory holds the index's rows, and a sample per worker. Files appear whole or not at all, and are the same bytes
    every time. Lists come last: they name no sample that is not there.

    Args:
        dataset: folder or URL that `vvt build` wrote.
        to: local folder.
        split: "train" or "test".
        size: (height, width) px of the videos, both even; ViViD's by default.
        densepose: write DensePose videos, which every sample then needs.
        on_error: at a damaged sample "raise", or "skip" it.
        workers: processes; 1: none but this one.

    Raises:
        DatasetError: the dataset is not there, a sample of it is damaged, or every one is.
        ConfigError: the folder holds something else, a sample has no DensePose, or a value that cannot be.

    """
    if not is_local(to):
        raise ConfigError("it is no local folder", where=to, remedy="Export to a disk, and copy from there")
    if min(size) < 2 or size[0] % 2 or size[1] % 2:
        raise ConfigError(f"the size is {size[0]}×{size[1]}", allowed="even numbers of px")
    items = read_items(dataset, split)
    _claim(to, {"format": "vivid", "dataset": _digest(dataset), "size": list(size), "densepose": densepose})
    folder = VividFolder(root=to, size=size, densepose=densepose)
    folder.prepare()
    there, written, errors = [], 0, []
    write = partial(_write, folder, on_error=on_error)
    for item, outcome in zip(items, _mapped(write, items, workers), strict=True):
        if isinstance(outcome, DatasetError):
            _log.warning("skipped a damaged sample: %s", outcome)
            errors.append(outcome)
        else:
            there.append(item)
            written += outcome
    if not there:
        raise DatasetError(f"every sample of the {split} split is damaged, e.g. {errors[0]}", where=dataset)
    folder.write_lists(split, there)
    return Exported(written=written, before=len(there) - written, skipped=len(errors))


def read_items(dataset: str, split: str) -> list[Item]:
    """Samples of a split, numbered by their place in the whole dataset."""
    numbers = {key: f"{number:07d}" for number, key in enumerate(read_index(dataset).keys(), start=1)}
    with open_table(urls.join(dataset, INDEX)) as table:
        if missing := sorted(set(_COLUMNS) - set(table.schema_arrow.names)):
            raise DatasetError(f"the index lacks {', '.join(missing)}", where=dataset, remedy="Build the dataset anew")
        rows = {row["key"]: row for row in read_rows(table, _COLUMNS)}
    return [
        Item(
            entry=entry,
            name=numbers[entry.key],
            subdir=SUBDIRS[Part(rows[entry.key]["part"])],
            pair_id=rows[entry.key]["pair_id"],
            frames=rows[entry.key]["frames"],
            caption=rows[entry.key]["global_caption"],
            actions=tuple(ActionCaption(**action) for action in rows[entry.key]["actions"]),
            licence=rows[entry.key]["licence"],
        )
        for entry in read_index(dataset, split=split)
    ]


def _write(folder: VividFolder, item: Item, *, on_error: str) -> bool | DatasetError:
    """Whether the sample had to be written, or why it could not be."""
    if folder.is_written(item):
        return False
    try:
        folder.write(item)
    except DatasetError as error:
        if on_error == "raise":
            raise
        return error
    return True


def _mapped(write: partial[bool | DatasetError], items: Sequence[Item], workers: int) -> Iterator[bool | DatasetError]:
    if workers == 1:
        yield from map(write, items)
        return
    # Ctrl-C is this process's to answer: those at work end their sample, the others never begin.
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    ) as pool:
        yield from pool.map(write, items)


def _digest(dataset: str) -> str:
    """What tells one dataset from another: its index names every member with its sha256."""
    return hashlib.sha256(urls.read(urls.join(dataset, INDEX)) or b"").hexdigest()


def _claim(to: str, settings: dict[str, object]) -> None:
    """Take an empty folder for this export, or go on with one of the same settings."""
    marker, wanted = urls.join(to, MARKER), json.dumps(settings, indent=2).encode()
    found = urls.read(marker)
    if found is None:
        if os.path.isdir(to) and os.listdir(to):
            raise ConfigError(f"the folder is not empty, and no export: it has no {MARKER}", where=to, remedy=_REMEDY)
        urls.write_whole(marker, wanted)
    elif found != wanted:
        raise ConfigError(
            f"the folder holds another export, {found.decode(errors='replace')}",
            where=to,
            allowed=wanted.decode(),
            remedy=_REMEDY,
        )
