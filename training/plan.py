"""In which order samples are trained on: batches of one bucket, the same whatever the number of workers and ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from schemas.errors import ConfigError


class Bucket(NamedTuple):
    """What samples have to have in common to lie in one batch."""

    frames: int
    height: int
    width: int


class Draw(NamedTuple):
    """One sample of one epoch. All that is random about it follows from `seed`."""

    row: int
    bucket: Bucket
    epoch: int
    seed: int
    """63 bits."""
    repeated: bool
    """Whether it only fills up the last batch of its bucket: the epoch has it in another place too."""


class BatchPlan(Sampler[list[Draw]]):
    """The batches of one rank, epoch by epoch, to be given to a DataLoader as `batch_sampler`.

    In an epoch every sample comes once. Global batches, of `batch` × `world_size` samples of one bucket, are dealt
    out in slices: rank r gets the r-th `batch` of each. So a step sees the same samples however many ranks share it,
    and the order is a function of seed, epoch and size of the global batch alone. The last batch of a bucket is
    filled up with the first samples of the bucket in that epoch (`Draw.repeated`), which get other windows.

    `epoch` and `step` say which batch is the next; `advance` counts one as done. They are not moved by iterating,
    since the workers of a DataLoader ask for batches ahead of time.

    Args:
        buckets: of the samples that are trained on.
        bucket_of: (rows,) place of each sample's bucket in `buckets`, -1 of those left out.
        batch: samples a step on each rank.
        seed: of the order and of the samples' seeds.
        shuffle: a new order each epoch; else rows in order, bucket by bucket.
        rank, world_size: which slice.

    Raises:
        ConfigError: the rank is none of the world's.

    """

    def __init__(
        self,
        buckets: list[Bucket],
        bucket_of: NDArray[np.int64],
        *,
        batch: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank} of world_size {world_size}", allowed="0 <= rank < world_size")
        self.buckets, self.batch, self.seed, self.shuffle = buckets, batch, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = self.step = 0
        self._rows = [np.flatnonzero(bucket_of == number) for number in range(len(buckets))]

    def __len__(self) -> int:
        """Steps of an epoch."""
        return sum(-(-len(rows) // self._global) for rows in self._rows)

    def __iter__(self) -> Iterator[list[Draw]]:
        """What is left of the current epoch."""
        order = np.random.default_rng((self.seed, self.epoch))
        batches: list[tuple[Bucket, NDArray[np.int64], NDArray[np.bool_]]] = []
        for bucket, rows in zip(self.buckets, self._rows, strict=True):
            chosen = order.permutation(rows) if self.shuffle else rows
            steps = -(-len(rows) // self._global)
            repeated = np.arange(steps * self._global) >= len(rows)
            filled = np.resize(chosen, len(repeated)).reshape(steps, self._global)
            batches += [(bucket, *step) for step in zip(filled, repeated.reshape(filled.shape), strict=True)]
        steps_in_order = order.permutation(len(batches)) if self.shuffle else np.arange(len(batches))
        seeds = order.integers(2**63, size=(len(batches), self._global))
        mine = slice(self.rank * self.batch, (self.rank + 1) * self.batch)
        epoch = self.epoch
        for place in steps_in_order[self.step :]:
            bucket, rows, repeated = batches[place]
            yield [
                Draw(int(row), bucket, epoch, int(seed), bool(again))
                for row, seed, again in zip(rows[mine], seeds[place][mine], repeated[mine], strict=True)
            ]

    @property
    def _global(self) -> int:
        return self.batch * self.world_size

    def advance(self) -> None:
        """Count the next batch as done; after the last one of an epoch, the next epoch begins."""
        self.step += 1
        if self.step == len(self):
            self.epoch, self.step = self.epoch + 1, 0

    def state_dict(self) -> dict[str, int]:
        """Where it is, and what the order depends on: the same on every rank."""
        return {"epoch": self.epoch, "step": self.step, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, on any number of ranks with the same global batch.

        Raises:
            ConfigError: the state is of another order: other data, seed or global batch.

        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ConfigError(
                    f"the saved position is of another order: {name} was {state.get(name)}, and is {value}",
                    allowed="the same dataset, seed, and batch × ranks",
                    remedy="Restore these, or start the data anew",
                )
        self.epoch, self.step = int(state["epoch"]), int(state["step"])

    def _identity(self) -> dict[str, int]:
        samples = sum(len(rows) for rows in self._rows)
        return {"seed": self.seed, "global_batch": self._global, "samples": samples, "steps": len(self)}
