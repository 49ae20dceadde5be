"""The closed form of a step's operations, against those that torch counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.training_flops import Size, step_flops
from tests.training.model.build import conditions, latents, model


@pytest.mark.parametrize("batch", [1, 2])
def test_closed_form_is_what_torch_counts(base: Path, batch: int):
    network = model(base)
    noisy, sigma = latents(batch=batch)
    # The plain kernel: flash attention counts scores twice backward, as it computes them again.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(noisy, sigma, conditions(batch=batch)).velocity.square().mean().backward()

    size = Size.of(network.backbone.config, video=noisy[0, 0].numel() // 4, text=12, batch=batch)
    assert step_flops(size) == counter.get_total_flops()
