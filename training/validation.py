"""Samples that are not trained on: their loss, at the same noise every time, and videos generated for them.

Shape legend: T frames of H×W pixels, B samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from schemas.conditions import UInt8
from training.clips import loader
from training.flow import draw
from training.sample import Batch
from training.sampler import sample
from training.step import losses_at

if TYPE_CHECKING:
    from training.conditioning import Conditioner
    from training.data_settings import DataSettings
    from training.model.itryon import ITryOn
    from training.stored_latents import LatentConditioner
    from training.train_settings import TrainSettings

MID_GREY = 127


@dataclass(frozen=True, eq=False)
class Grid:
    """Pictures of one sample side by side: real, agnostic, pose, hands, generated.

    Attributes:
        key: of the sample.
        frames: (T, H, 5·W, 3) uint8 RGB.
        fps: frames a second.

    """

    key: str
    frames: UInt8
    fps: Fraction


class Validation:
    """The same windows every time, dealt out to the ranks as those of training are.

    Args:
        settings: of the run.
        conditioner: of training; videos take one that encodes pictures.
        rank, world_size: which of the windows are this process's.

    Raises:
        DatasetError: the split is empty, or (when read) damaged.

    """

    def __init__(
        self, settings: TrainSettings, conditioner: Conditioner | LatentConditioner, *, rank: int, world_size: int
    ) -> None:
        self.settings, self._conditioner = settings, conditioner
        self._loader = loader(held_out(settings), rank=rank, world_size=world_size)
        self._start = self._loader.state_dict()
        self._together = settings.data.batch * world_size

    @torch.no_grad()
    def loss(self, model: nn.Module) -> Tensor:
        """Mean of the total loss over this rank's windows and all noise levels, a scalar."""
        found = []
        for batch in self._batches(self.settings.validation.samples):
            encoded = self._conditioner(batch)
            _, noise = draw(batch["seed"], encoded.latents.shape[1:])
            for level in self.settings.validation.sigmas:
                sigma = torch.full((len(noise),), level)
                losses = losses_at(model, encoded, sigma=sigma, noise=noise, settings=self.settings.loss)
                found.append(losses.total)
        return torch.stack(found).mean()

    @torch.no_grad()
    def videos(self, model: ITryOn) -> Iterator[Grid]:
        """Grids of this rank's windows. With shards, every rank has to take all of its own."""
        sampler = self.settings.validation.sampler
        conditioner = cast("Conditioner", self._conditioner)  # of stored latents, settings allow no videos
        for batch in self._batches(self.settings.validation.videos):
            conditions = conditioner.conditions(batch)
            free = conditioner.unconditional(conditions) if sampler.guidance > 1 else None
            latents = sample(model, conditions, free, seeds=batch["seed"].tolist(), settings=sampler)
            yield from grids(batch, conditioner.vae.decode(latents))

    def _batches(self, samples: int) -> Iterator[Batch]:
        """As few batches as hold so many samples over all ranks; as many on each rank."""
        self._loader.load_state_dict(self._start)
        return islice(self._loader, -(-samples // self._together))


def held_out(settings: TrainSettings) -> DataSettings:
    """How held-out windows are read: as in training, but nothing is left out or exchanged, and by one seed."""
    return settings.data.model_copy(
        update={
            "split": settings.validation.split,
            "unpaired_share": 0.0,
            "caption_dropout": 0.0,
            "action_dropout": 0.0,
            "pose_dropout": 0.0,
            "shuffle": True,
            "seed": 0,
            "workers": 0,  # a few windows now and then
        }
    )


def grids(batch: Batch, generated: Tensor) -> Iterator[Grid]:
    """What `generated` (B, 3, T, H, W) float -1..1 looks like beside what it was made of."""
    results = ((generated.transpose(1, 2) + 1) * 127.5).round().to(torch.uint8).cpu()
    for number, result in enumerate(results):
        real = batch["video"][number]
        agnostic = torch.where(batch["mask"][number], torch.tensor(MID_GREY, dtype=torch.uint8), real)
        row = torch.cat([real, agnostic, batch["pose"][number], batch["hands"][number], result], dim=3)
        fps = Fraction(float(batch["fps"][number])).limit_denominator(1001)
        yield Grid(batch["key"][number], row.permute(0, 2, 3, 1).numpy(), fps)
