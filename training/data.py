"""The reader for trainers: an iterable torch dataset over the shards of VVT-Interact."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from media.reader import Backend
from schemas.errors import ConfigError, DatasetError
from training.decoding import SampleDecoder
from training.fit import Size
from training.sample import Batch, Picture, Sample, collate, to_unit_range
from training.shards import read_index, read_members, scan_shards

__all__ = ["Batch", "InteractDataset", "Sample", "collate", "to_unit_range"]

_log = logging.getLogger(__name__)
_MAX_WORKERS = 1024


class InteractDataset(IterableDataset[Sample]):
    """Samples of a built dataset, dealt out one by one to ranks and DataLoader workers.

    In an epoch every sample is read exactly once over all ranks and workers, whatever their numbers, also
    with fewer shards than workers: rank r of R takes samples r, r + R, r + 2R, … of the epoch's order, and
    worker w of W the same out of those. So ranks may differ by one sample; `even` mends that.

    Args:
        dataset: folder that `vvt build` wrote, as path or fsspec URL; or a list of shards (paths or URLs),
            which are then scanned for their samples once.
        split: "train" or "test"; not used with a list of shards.
        frames: only the first so many frames of a clip; None: all.
        size: (H, W) to fit videos into, aspect kept, centred on black; None: as stored.
        garment_size: (h, w) to fit garment images into, aspect kept, centred on white; None: as stored.
        pictures: which of "agnostic", "pose", "hands", "densepose" to draw.
        shuffle: a new order of all samples each epoch, from `seed` and `set_epoch`; else key order.
        seed: of the shuffle; the same on all ranks.
        even: "drop" leaves out up to R - 1 samples of an epoch, "pad" repeats up to R - 1, so that every rank
            has as many as the others (as DDP wants); None does neither.
        rank, world_size: default to torch.distributed if it is initialised, else to the variables RANK and
            WORLD_SIZE that torchrun sets, else to 0 and 1.
        on_error: at a damaged sample "raise", or "skip" it with a warning and count it in `skipped`.
        backend: decoder of the video: "pyav", "decord" or "torchcodec".

    Raises:
        DatasetError: the dataset is not there or empty, or (when iterated) a sample of it is damaged; names
            shard and key.
        ConfigError: an argument that cannot be.

    """

    def __init__(
        self,
        dataset: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        split: str = "train",
        frames: int | None = None,
        size: Size | None = None,
        garment_size: Size | None = None,
        pictures: Sequence[Picture] = ("agnostic", "pose", "hands"),
        shuffle: bool = False,
        seed: int = 0,
        even: Literal["drop", "pad"] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        backend: Backend = "pyav",
    ) -> None:
        if even not in (None, "drop", "pad"):
            raise ConfigError(f"even is {even!r}", allowed="'drop', 'pad' or None")
        if on_error not in ("raise", "skip"):
            raise ConfigError(f"on_error is {on_error!r}", allowed="'raise' or 'skip'")
        self.decoder = SampleDecoder(
            frames=frames, size=size, garment_size=garment_size, pictures=tuple(pictures), backend=backend
        )
        if isinstance(dataset, str | os.PathLike):
            self.index = read_index(os.fspath(dataset), split=split)
        else:
            self.index = scan_shards([os.fspath(shard) for shard in dataset])
        self.rank, self.world_size = _place(rank, world_size)
        self.shuffle, self.seed, self.even, self.on_error = shuffle, seed, even, on_error
        # In shared memory: workers that outlive an epoch see the next one's number, and we see their counts.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._skipped = torch.zeros(_MAX_WORKERS, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        """Samples that this rank gets in an epoch, over all its workers."""
        return len(self._rows_of_rank())

    def __iter__(self) -> Iterator[Sample]:
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for row in self._rows_of_rank()[number::workers]:
            entry = self.index[int(row)]
            try:
                sample = self.decoder(entry.key, read_members(entry), where=str(entry))
            except DatasetError as error:
                if self.on_error == "raise":
                    raise
                self._skipped[number % _MAX_WORKERS] += 1
                _log.warning("skipped a damaged sample: %s", error)
            else:
                yield sample

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, before iterating: it seeds the shuffle, together with `seed`."""
        self._epoch.fill_(epoch)

    @property
    def skipped(self) -> int:
        """Damaged samples skipped so far on this rank, over all its workers and epochs."""
        return int(self._skipped.sum())

    def _rows_of_rank(self) -> NDArray[np.int64]:
        order = np.arange(len(self.index))
        if self.shuffle:
            order = np.random.default_rng((self.seed, int(self._epoch))).permutation(order)
        surplus = len(order) % self.world_size
        if self.even == "drop":
            order = order[: len(order) - surplus]
        elif self.even == "pad" and surplus:
            order = np.resize(order, len(order) + self.world_size - surplus)
        return order[self.rank :: self.world_size]


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size: as given, or as torch says."""
    if (rank is None) != (world_size is None):
        raise ConfigError("rank and world_size go together", allowed="both, or neither")
    if rank is None or world_size is None:
        group = torch.distributed
        if group.is_available() and group.is_initialized():
            return group.get_rank(), group.get_world_size()
        rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank is {rank} of world_size {world_size}", allowed="0 <= rank < world_size")
    return rank, world_size
