"""The path from data to noise, and the losses: against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.flow import draw, noisy, shifted, velocity
from training.losses import flow_loss, garment_attention_loss
from weights.torchvision_operators import declare_missing_operators

NAN = math.nan


def test_shift() -> None:
    sigma = shifted(torch.tensor([0, 0.2, 0.5, 1]), shift=5)
    torch.testing.assert_close(sigma, torch.tensor([0, 1 / 1.8, 2.5 / 3, 1]))
    assert torch.equal(shifted(sigma, shift=1), sigma)


def test_shift_is_that_of_the_sampler() -> None:
    declare_missing_operators()
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=5.0).sigmas
    torch.testing.assert_close(shifted(torch.linspace(1, 0.001, 1000), shift=5), theirs[:1000])


def test_path() -> None:
    x0, noise = torch.full((3, 2, 2), 4.0), torch.full((3, 2, 2), -1.0)
    sigma = torch.tensor([0, 0.25, 1])
    at = noisy(x0, noise, sigma=sigma)
    assert at[:, 0, 0].tolist() == [4, 2.75, -1]
    torch.testing.assert_close(at - sigma.view(3, 1, 1) * velocity(x0, noise), x0)
    assert noisy(x0.bfloat16(), noise, sigma=sigma).dtype == torch.bfloat16


def test_draws_follow_the_samples_own_seeds() -> None:
    seeds = torch.tensor([7, 2**62, 8])
    sigma, noise = draw(seeds, (16, 2, 3))
    assert sigma.shape == (3,)
    assert noise.shape == (3, 16, 2, 3)
    for sample in range(3):
        alone = draw(seeds[sample : sample + 1], (16, 2, 3))
        assert torch.equal(alone[0][0], sigma[sample])
        assert torch.equal(alone[1][0], noise[sample])
    assert len(set(sigma.tolist())) == 3
    assert not torch.equal(noise[0], noise[2])


def test_draws_are_distributed_as_they_should() -> None:
    sigma, noise = draw(torch.arange(2000), (8,), shift=1)
    assert ((sigma >= 0) & (sigma < 1)).all()
    torch.testing.assert_close(
        sigma.quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([0.25, 0.5, 0.75]), atol=0.04, rtol=0
    )
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03
    assert torch.equal(draw(torch.arange(2000), (8,), shift=5)[0], shifted(sigma, shift=5))


def frames(*values: float) -> Tensor:
    """(1, 2, F, 1, 1), each frame of one value."""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1, 1).expand(1, 2, -1, 1, 1).clone()


def test_flow_loss() -> None:
    losses = flow_loss(frames(1, 0, 5), frames(0, 2, 2), torch.tensor([[0.0, 1, 0]]), action_weight=0.5)
    assert losses.flow.item() == pytest.approx(14 / 3)  # 1 + 4 + 9
    assert losses.action.item() == pytest.approx(4 / 3)
    assert losses.total.item() == pytest.approx(14 / 3 + 0.5 * 4 / 3)
    assert losses.garment is None


def test_flow_loss_without_the_reference_or_the_constraint() -> None:
    predicted, target, interactive = frames(1, 0, 5), frames(0, 2, 2), torch.tensor([[0.0, 1, 0]])
    without = flow_loss(predicted, target, interactive, action_weight=1, reference=False)
    assert without.flow.item() == pytest.approx(13 / 2)
    assert without.action.item() == pytest.approx(4 / 2)
    assert without.total.item() == pytest.approx(17 / 2)
    plain = flow_loss(predicted, target, interactive, action_weight=0)
    assert plain.total == plain.flow


def test_flow_loss_is_reckoned_in_float32() -> None:
    losses = flow_loss(frames(1.0, 1.0).bfloat16(), frames(0.999, 0.999), torch.zeros(1, 2))
    assert losses.total.dtype == torch.float32
    assert losses.total.item() == pytest.approx(1e-6, rel=1e-3)


def test_gradients_are_larger_by_the_weight_where_it_is_interactive() -> None:
    predicted = frames(1, 1, 1).requires_grad_()
    flow_loss(predicted, frames(0, 0, 0), torch.tensor([[0.0, 1, 0]]), action_weight=0.5).total.backward()
    assert predicted.grad is not None
    reference, interactive, other = predicted.grad[0, 0, :, 0, 0].tolist()
    assert reference == other
    assert interactive == pytest.approx(1.5 * other)


def test_two_ranks_mean_what_one_does() -> None:
    torch.manual_seed(0)
    predicted, target, interactive = torch.randn(4, 2, 3, 2, 2), torch.randn(4, 2, 3, 2, 2), torch.rand(4, 3).round()
    mass, repaint = torch.rand(4, 2, 3, 3), torch.rand(4, 2, 3, 3) < 0.5
    mass[torch.rand_like(mass) < 0.5] = NAN
    repaint[0] = False
    halves = [
        (flow_loss(predicted[part], target[part], interactive[part]), garment_attention_loss(mass[part], repaint[part]))
        for part in (slice(0, 2), slice(2, 4))
    ]
    whole = flow_loss(predicted, target, interactive)
    for name in ("total", "flow", "action"):
        mean = sum(getattr(losses, name) for losses, _ in halves) / 2
        torch.testing.assert_close(mean, getattr(whole, name))
    torch.testing.assert_close(sum(loss for _, loss in halves) / 2, garment_attention_loss(mass, repaint))


MASS = [[[0.5, 0.8], [0.1, 0.2]], [[0.3, 0.1], [0.0, 0.4]]]
REPAINT = [[[True, True], [False, False]], [[False, False], [False, True]]]


def test_garment_attention_loss() -> None:
    loss = garment_attention_loss(torch.tensor([MASS]), torch.tensor([REPAINT]), negative_weight=0.1)
    first = (1 - 0.8) ** 2 + 0.1 * (0.1**2 + 0.2**2)
    second = (1 - 0.4) ** 2 + 0.1 * (0.3**2 + 0.1**2)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_garment_attention_loss_of_sampled_tokens() -> None:
    sampled = torch.tensor([[[[0.5, NAN], [NAN, 0.2]], [[NAN, 0.1], [0.0, NAN]]]])
    loss = garment_attention_loss(sampled, torch.tensor([REPAINT]), negative_weight=0.1)
    first = (1 - 0.5) ** 2 + 0.1 * (2 / 1 * 0.2**2)  # one of the two tokens outside stands for both
    second = 0 + 0.1 * (3 / 2 * 0.1**2)  # none inside was looked at
    assert loss.item() == pytest.approx((first + second) / 2)


def test_garment_attention_loss_at_the_edges() -> None:
    mass = torch.tensor([MASS])
    everywhere, nowhere = torch.ones_like(mass, dtype=torch.bool), torch.zeros_like(mass, dtype=torch.bool)
    assert garment_attention_loss(mass, everywhere).item() == pytest.approx((0.2**2 + 0.6**2) / 2)
    assert garment_attention_loss(mass, nowhere, negative_weight=1).item() == pytest.approx((0.94 + 0.26) / 2)
    assert garment_attention_loss(torch.full_like(mass, NAN), everywhere).item() == 0
    assert garment_attention_loss(mass.bfloat16(), everywhere).dtype == torch.float32


def test_garment_attention_loss_is_the_mean_of_layers() -> None:
    one, other, repaint = torch.tensor([MASS]), torch.tensor([MASS]).flip(1), torch.tensor([REPAINT])
    each = [garment_attention_loss(mass, repaint).item() for mass in (one, other)]
    assert garment_attention_loss([one, other], repaint).item() == pytest.approx(sum(each) / 2)
    assert each[0] != each[1]


def test_garment_attention_loss_pulls_attention_into_the_mask() -> None:
    mass = torch.tensor([[[[0.5, 0.8, NAN], [0.1, 0.2, NAN]]]], requires_grad=True)
    repaint = torch.tensor([[[[True, True, True], [False, False, False]]]])
    garment_attention_loss(mass, repaint).backward()
    assert mass.grad is not None
    assert mass.grad.isfinite().all()
    [[inside, most, _], [outside, *_]] = mass.grad[0, 0].tolist()
    assert most < 0 == inside < outside
    assert mass.grad[..., 2].abs().sum() == 0
