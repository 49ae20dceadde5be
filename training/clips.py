"""The reader for training runs: windows of clips in buckets, the same whatever the number of workers and ranks."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from schemas.annotation import ActionCaption, Annotation
from schemas.conditions import POSE_POINTS, Bool
from schemas.errors import DatasetError
from training.clip_window import ClipWindow
from training.data_settings import DataSettings
from training.decoding import NewTensor, decode_garment, decode_window, new_tensor
from training.fit import Fit
from training.plan import BatchPlan, Draw
from training.sample import Batch, Sample, collate
from training.shard_cache import ShardCache
from training.shards import Entry, read_bytes, read_members
from training.shared_memory import Buffer, BufferPool, SharedBatch
from training.stored import StoredSample
from training.stored_latents import read_window
from training.survey import Survey, speed_of, survey
from training.windows import interactive_shares, offsets

_log = logging.getLogger(__name__)
_REPLACEMENTS = 16
"""Samples tried in place of a damaged one."""

ReadMembers = Callable[[Entry], Mapping[str, bytes]]


class TrainingClips(Dataset[Sample]):
    """Samples of a built dataset by `Draw`: what a draw gives depends on nothing but the draw, settings and dataset.

    Args:
        settings: what to read.
        read_members: fetches the members of one sample by their name after the key; None: as `settings.cache` says.

    Raises:
        ConfigError: the folder of the cache cannot be made.
        DatasetError: the dataset is not there, damaged or empty, or (when read) a sample of it is damaged; names
            shard and key.

    """

    def __init__(self, settings: DataSettings, *, read_members: ReadMembers | None = None) -> None:
        self.settings = settings
        self.survey: Survey = survey(settings)
        self._read_members = read_members or _reading(settings, version=self.survey.version)
        self._buffers = BufferPool()  # of the worker that this is in
        self._skipped = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by all workers

    def __len__(self) -> int:
        """Clips that are trained on."""
        return int((self.survey.bucket_of >= 0).sum())

    @property
    def skipped(self) -> int:
        """Damaged samples replaced so far, over all workers."""
        return int(self._skipped)

    def __getitem__(self, draw: Draw) -> Sample:
        """The sample drawn, or with `on_error: skip`, where it is damaged, another one of its bucket."""
        return self._undamaged(draw, new_tensor)

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        """The batch of these, drawn where it stays: in a worker that is memory shared with the trainer's process.

        DataLoader asks for this, and hands what it gets to its `collate_fn`.
        """
        rows = _Rows(len(draws), None if get_worker_info() is None else self._buffers)
        samples = [self._undamaged(draw, partial(rows.new, place)) for place, draw in enumerate(draws)]
        batch = collate(samples, stacked=rows.tensors)
        return cast(Batch, SharedBatch(batch, rows.buffers)) if rows.buffers else batch

    def _undamaged(self, draw: Draw, new: NewTensor) -> Sample:
        try:
            return self._sample(draw, new)
        except DatasetError as error:
            if self.settings.on_error == "raise":
                raise
            damage = error
        others = np.flatnonzero(self.survey.bucket_of == self.survey.bucket_of[draw.row])
        for row in np.random.default_rng((draw.seed, 1)).choice(others, _REPLACEMENTS):
            self._skipped += 1
            _log.warning("replaced a damaged sample: %s", damage)
            try:
                return self._sample(draw._replace(row=int(row)), new)
            except DatasetError as error:
                damage = error
        raise damage

    def _sample(self, draw: Draw, new: NewTensor) -> Sample:
        settings, random = self.settings, np.random.default_rng(draw.seed)
        # All of them at once, so that one setting does not change what the others do.
        start, unpaired, garment, captions, actions = random.random(5)
        stored, key = self._stored(draw.row)
        if settings.latents:
            sample = read_window(stored, settings, key=key, bucket=draw.bucket, quantile=start)
        else:
            source = self.survey.swaps.other(draw.row, garment) if unpaired < settings.unpaired_share else None
            absent = random.random((draw.bucket.frames, POSE_POINTS)) < settings.pose_dropout
            sample = self._drawn(draw, stored, key, quantile=start, source=source, absent=absent, new=new)
        if captions < settings.caption_dropout:
            sample["global_caption"] = ""
        if captions < settings.caption_dropout or actions < settings.action_dropout:
            sample["actions"] = [_silent(action) for action in sample["actions"]]
        sample["fps"] = settings.fps or sample["fps"]
        sample["repeated"], sample["seed"] = draw.repeated, draw.seed
        return sample

    def _drawn(
        self,
        draw: Draw,
        stored: StoredSample,
        key: str,
        *,
        quantile: float,
        source: int | None,
        absent: Bool,
        new: NewTensor,
    ) -> Sample:
        """Pictures of the window at `quantile`, with the garment of row `source` (None: its own)."""
        annotation: Annotation = stored.artifact("annotation")
        window = self._window(stored, annotation, draw, quantile)
        worn_by, garment_key = (stored, key) if source is None else self._stored(source)
        target = (draw.bucket.height, draw.bucket.width)
        sample = decode_window(
            window,
            key=key,
            fit=Fit.around(window.person_box(), target, window.source),
            garment=decode_garment(worn_by, target),
            pictures=self.settings.pictures,
            absent=absent,
            new=new,
        )
        sample["window"] = (int(window.indices[0]), int(window.indices[-1]))
        sample["paired"], sample["garment_key"] = source is None, garment_key
        return sample

    def _stored(self, row: int) -> tuple[StoredSample, str]:
        entry = self.survey.index[row]
        return StoredSample(self._read_members(entry), str(entry), self.settings.backend), entry.key

    def _window(self, stored: StoredSample, annotation: Annotation, draw: Draw, quantile: float) -> ClipWindow:
        speed = speed_of(float(stored.meta().span.fps), self.settings)
        window = offsets(len(annotation.labels), frames=self.settings.frames, speed=speed)
        if len(window) != draw.bucket.frames:
            raise stored.error(f"it gives {len(window)} frames where the index promises {draw.bucket.frames}")
        shares = interactive_shares(np.array(annotation.labels), window)
        return ClipWindow(stored, annotation, window + self.survey.tilt.start(shares, quantile))


def _reading(settings: DataSettings, *, version: str) -> ReadMembers:
    if settings.cache is None:
        return read_members
    cache = ShardCache(settings.cache, max_bytes=round(settings.cache_gb * 1e9))
    return partial(read_members, fetch=partial(_cached, cache, version))


def _cached(cache: ShardCache, version: str, entry: Entry) -> bytes:
    return cache.read(f"{version} {entry.shard} {entry.start}", partial(read_bytes, entry))


class _Rows:
    """Tensors of a batch, of which each sample gets its row; they lie in buffers where there is a pool of these."""

    def __init__(self, samples: int, pool: BufferPool | None) -> None:
        self.samples, self.pool = samples, pool
        self.tensors: dict[str, Tensor] = {}
        self.buffers: dict[str, Buffer] = {}
        self._lock = Lock()

    def new(self, place: int, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """The row `place` of tensor `name`; see `NewTensor`."""
        with self._lock:
            if name not in self.tensors:
                self.tensors[name] = self._tensor(name, (self.samples, *shape), dtype)
        return self.tensors[name][place]

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if self.pool is None:
            return new_tensor(name, shape, dtype)
        size = math.prod(shape) * dtype.itemsize
        self.buffers[name] = self.pool.unused(size, but=self.buffers.values())
        return self.buffers[name].tensor(shape, dtype)


def _as_it_is(batch: Any) -> Any:
    return batch


def _silent(action: ActionCaption) -> ActionCaption:
    return action.model_copy(update={"caption": ""})


class ClipLoader(DataLoader[Any]):
    """Batches of one rank, from where its plan stands to the end of the epoch; then the next epoch.

    `plan` counts the batches handed out. Not to be given to `accelerate.prepare`, which would deal them out anew.
    """

    def __init__(self, clips: TrainingClips, plan: BatchPlan, *, workers: int, prefetch: int) -> None:
        # Threads of OpenCV's do not survive a fork: a worker would wait for them for ever. Workers share the machine.
        cv2.setNumThreads(1)
        super().__init__(
            clips,
            batch_sampler=plan,
            collate_fn=_as_it_is,
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else every epoch would draw from the trainer's own random numbers
        )
        self.clips, self.plan = clips, plan

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        # Workers are forked here. Garbage that they inherit is not theirs to collect: a decoder in it would wait for
        # threads that did not survive the fork, for ever. And a collection would copy all that they share by then.
        gc.freeze()
        try:
            batches = super().__iter__()
        finally:
            gc.unfreeze()
        for batch in batches:
            self.plan.advance()
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Position after the last batch handed out, see `BatchPlan.state_dict`."""
        return self.plan.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after that batch, on iterating anew."""
        self.plan.load_state_dict(state)


def loader(settings: DataSettings, *, rank: int = 0, world_size: int = 1) -> ClipLoader:
    """Batches of `settings.batch` samples for one rank.

    Raises:
        DatasetError: see `TrainingClips`.
        ConfigError: the rank is none of the world's.

    """
    clips = TrainingClips(settings)
    plan = BatchPlan(
        clips.survey.buckets,
        clips.survey.bucket_of,
        batch=settings.batch,
        seed=settings.seed,
        shuffle=settings.shuffle,
        rank=rank,
        world_size=world_size,
    )
    return ClipLoader(clips, plan, workers=settings.workers, prefetch=settings.prefetch)
