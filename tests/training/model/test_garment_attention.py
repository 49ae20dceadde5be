"""The attention that falls on the garment, against the whole attention matrix."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from schemas.errors import ConfigError
from tests.training.model.build import FRAMES, HEIGHT, WIDTH, conditions, latents, model
from training.model.garment_attention import spread_tokens
from training.model.itryon import ITryOn

SIZE = HEIGHT // 2 * (WIDTH // 2)


def by_hand(network: ITryOn, layer: int) -> Tensor:
    """(B, F - 1, h/2, w/2): from the inputs of a layer's self-attention, with diffusers' rotary embedding as angles."""
    attention, seen = network.backbone.blocks[layer].attn1, []
    handle = attention.register_forward_hook(lambda _, inputs, output: seen.append(inputs))
    with torch.no_grad():
        network(*latents(), conditions())
    handle.remove()
    hidden = seen[0][0]
    cos, sin = network.backbone.rope(latents()[0])
    angle = torch.atan2(sin, cos)[0, :, 0, ::2]

    def turned(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (attention.heads, -1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)[:, None]).flatten(-2)

    with torch.no_grad():
        query = turned(attention.norm_q(attention.to_q(hidden)))
        key = turned(attention.norm_k(attention.to_k(hidden)))
        weights = (torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5).softmax(-1)
    on_garment = weights[..., :SIZE].sum(-1).mean(1)
    return on_garment.unflatten(1, (FRAMES, HEIGHT // 2, WIDTH // 2))[:, 1:]


def test_it_is_the_share_of_the_whole_attention_that_falls_on_the_reference(base: Path):
    network = model(base, garment_attention={"layers": (0, 2), "queries": SIZE})
    found = network(*latents(), conditions()).garment_attention

    torch.testing.assert_close(found, (by_hand(network, 0) + by_hand(network, 2)) / 2)
    assert found.std() > 1e-4  # not the same everywhere


def test_tokens_not_looked_at_are_nan_and_others_the_same(base: Path):
    every, some = (
        model(base, garment_attention={"layers": (1,), "queries": queries})(*latents(), conditions()).garment_attention
        for queries in (100, 2)  # more than there are is all of them
    )

    assert every.shape == some.shape == (2, FRAMES - 1, HEIGHT // 2, WIDTH // 2)
    assert not every.isnan().any()
    assert (~some.isnan()).sum((2, 3)).tolist() == [[2] * (FRAMES - 1)] * 2
    torch.testing.assert_close(some[~some.isnan()], every[~some.isnan()])


def test_asking_changes_nothing_else(base: Path):
    asked = model(base, garment_attention={"layers": (0, 3), "queries": 2})(*latents(), conditions())
    plain = model(base)(*latents(), conditions())

    assert plain.garment_attention is None
    assert torch.equal(asked.velocity, plain.velocity)


def test_it_can_be_learnt(base: Path):
    """A few steps on it alone draw video tokens to the garment."""
    network = model(base, train="full", garment_attention={"layers": (3,), "queries": SIZE})
    optimizer = torch.optim.Adam(network.trainable_parameters(), lr=3e-3)
    masses = []
    for _ in range(8):
        mass = network(*latents(), conditions()).garment_attention
        masses.append(float(mass.detach().mean()))
        optimizer.zero_grad()
        (1 - mass).square().mean().backward()
        optimizer.step()

    assert masses[-1] > masses[0] * 1.5


def test_tokens_are_spread_over_each_frame_and_others_in_the_next():
    tokens = spread_tokens(22, 1728, 64, device=torch.device("cpu")).view(21, 64)
    within = tokens % 1728

    assert torch.equal(tokens // 1728, torch.arange(1, 22)[:, None].expand(21, 64))
    assert within.diff(dim=1).min() == within.diff(dim=1).max() == 27
    assert len(within[:, 0].unique()) >= 20  # of 27 places that the first of a frame may be at
    assert spread_tokens(2, 6, 100, device=torch.device("cpu")).tolist() == [6, 7, 8, 9, 10, 11]


def test_one_latent_frame_beside_the_reference(base: Path):
    tokens = spread_tokens(2, 6, 3, device=torch.device("cpu"))
    assert tokens.shape == (3,)


@pytest.mark.parametrize("layer", [4, -1])
def test_a_layer_that_is_not_there_is_refused(base: Path, layer: int):
    with pytest.raises(ConfigError, match=rf"no main blocks {layer} .*0 to 3"):
        model(base, garment_attention={"layers": (layer,)})
