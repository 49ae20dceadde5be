"""An exponential moving average of what is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from training.checkpoints import placed_like


class Ema:
    """Average of parameters over steps, float32: average ← d·average + (1 − d)·parameter.

    d is `decay`, less in the beginning, min(decay, (1 + n) / (10 + n)) at update n = 1, 2, … (Polyak averaging as
    TensorFlow's `ExponentialMovingAverage(num_updates=…)` has it), so that the average does not stay at the start.
    Sharded parameters (DTensor) have sharded averages.

    Args:
        parameters: name → parameter; the average starts as a copy of them.
        decay: 0 up to 1.

    """

    def __init__(self, parameters: Mapping[str, Tensor], *, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._parameters = dict(parameters)
        self.average = {name: value.detach().clone().float() for name, value in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are now into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = [value.detach().float() for value in self._parameters.values()]
        get_ema_multi_avg_fn(decay)(list(self.average.values()), current, self.updates)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """While the block lasts, the parameters have the average's values."""
        trained = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._fill(self.average)
        try:
            yield
        finally:
            self._fill(trained)

    def restore(self, average: Mapping[str, Tensor], *, updates: int) -> None:
        """Go on from whole tensors, the average after `updates` updates."""
        self.updates = updates
        for name, value in self.average.items():
            value.copy_(placed_like(average[name], value))

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
