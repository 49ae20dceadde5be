from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import ablation
from benchmarks.ablation_task import FRAMES, HAND, SIDE, World
from training import flow
from training.conditioning import Encoded
from training.segments import latent_frames

CLIPS = range(2_000, 2_012)


@pytest.fixture(scope="module")
def world() -> World:
    return World.drawn(3)


@pytest.fixture(scope="module")
def clips(world: World) -> Encoded:
    return world.clips(CLIPS)


@pytest.fixture
def _few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "HELD_OUT", range(1_000, 1_008))


def kinds(world: World, clips: Encoded) -> Tensor:
    """(B, f): which caption stands on a latent frame; -1: none."""
    text, found = clips.conditions.captions, torch.full_like(clips.conditions.segments.frames, -1)
    for kind, caption in enumerate(world.captions):
        for sample in range(len(found)):
            of_kind = (text.tokens[sample, :, None] == caption).all(-1).any(-1)
            for segment in text.segments[sample][of_kind].unique():
                found[sample][clips.conditions.segments.frames[sample] == segment] = kind
    return found[:, 1:]


def places(world: World, clips: Encoded) -> Tensor:
    """(B, f, 2): where the one hand of a frame is, to which nothing else in its picture is added."""
    hands = clips.conditions.hands[:, :, 1:]
    found = torch.zeros(*hands.shape[:1], hands.shape[2], 2, dtype=torch.long)
    for top in range(SIDE - HAND + 1):
        for left in range(SIDE - HAND + 1):
            picture = functional.pad(world.hand, (left, SIDE - HAND - left, top, SIDE - HAND - top))
            here = (hands == picture[None, :, None]).all((1, 3, 4))
            found[here] = torch.tensor([top, left]) + 1
    assert found.all()
    return found - 1


def test_a_pattern_is_where_the_hand_is_and_what_and_when_its_caption_says(world: World, clips: Encoded) -> None:
    kind, place = kinds(world, clips), places(world, clips)
    left_over = clips.latents[:, :, 1:] - clips.conditions.context[:, :16, 1:]
    for sample, frame in (kind >= 0).nonzero().tolist():
        top, left = place[sample, frame].tolist()
        left_over[sample, :, frame, top : top + HAND, left : left + HAND] -= world.patterns[kind[sample, frame]]
    # What is left is detail: within the span of its directions.
    span = torch.linalg.qr(world.detail.T).Q
    outside = left_over - torch.einsum("cr,dr,bdfhw->bcfhw", span, span, left_over)
    assert outside.abs().max() < 1e-4
    assert left_over.abs().mean() > 0.3


def test_few_frames_are_interactive_those_with_a_caption_and_two_captions_differ(world: World, clips: Encoded) -> None:
    kind = kinds(world, clips)
    assert torch.equal(clips.interactive[:, 1:] == 1, kind >= 0)
    assert 0.1 < clips.interactive.mean() < 0.25
    assert kind.shape[1] == latent_frames(FRAMES)
    for row in kind:
        assert len(row[row >= 0].unique()) == 2


def test_the_hand_is_seen_as_much_without_an_action_as_with_one(world: World, clips: Encoded) -> None:
    acts, place = kinds(world, clips) >= 0, places(world, clips)
    assert len(place[acts].unique(dim=0)) == len(place[~acts].unique(dim=0)) == 4
    assert not torch.equal(place[0], place[1])


def test_a_clip_is_the_same_in_any_batch_and_another_for_another_seed(world: World, clips: Encoded) -> None:
    alone = world.clips([CLIPS[5]])
    assert torch.equal(alone.latents[0], clips.latents[5])
    assert not torch.allclose(alone.latents[0], clips.latents[4])


def test_the_least_error_is_that_of_the_best_guess(world: World) -> None:
    generator = torch.Generator().manual_seed(0)
    covariance = world.detail.T @ world.detail
    for sigma in (0.3, 0.9):
        x0 = torch.randn(40_000, len(world.detail), generator=generator) @ world.detail
        noise = torch.randn(x0.shape, generator=generator)
        noisy = flow.noisy(x0, noise, sigma=torch.full((len(x0),), sigma))
        of_noisy = (1 - sigma) ** 2 * covariance + sigma**2 * torch.eye(len(covariance))
        guess = (1 - sigma) * noisy @ torch.linalg.solve(of_noisy, covariance)
        error = (flow.velocity(guess, (noisy - (1 - sigma) * guess) / sigma) - flow.velocity(x0, noise)).square().mean()
        assert float(error) == pytest.approx(float(world.least_error(torch.tensor([sigma]))), rel=0.02)


@pytest.mark.usefixtures("_few_held_out")
def test_variants_of_a_seed_differ_in_nothing_else() -> None:
    runs = [
        ablation.trained_and_measured(variant, 1, steps=0)
        for variant in (ablation.ALL, "without Guider", "without action-aware loss")
    ]
    # A Guider starts with outputs of zero, and the loss has not been used.
    assert len({run.interactive for run in runs}) == 1
    assert ablation.trained_and_measured(ablation.ALL, 0, steps=0).interactive != runs[0].interactive


@pytest.mark.usefixtures("_few_held_out")
def test_it_trains_and_tells_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ablation.json"
    variants = f"{ablation.ALL},without action-aware loss"
    ablation.main(["--steps", "3", "--seeds", "1", "--variants", variants, "--processes", "1", "--out", str(out)])
    whole, without = json.loads(out.read_text())["runs"]
    untrained = ablation.trained_and_measured(ablation.ALL, 0, steps=0)
    assert whole["interactive"] < untrained.interactive
    assert without["interactive"] != whole["interactive"]
    printed = capsys.readouterr().out
    assert f"{without['interactive'] - whole['interactive']:+.3f}" in printed
    assert f"| {ablation.ALL} | {whole['interactive']:.3f} |" in printed


def test_an_unknown_variant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ablation.main(["--variants", "without everything"])
    assert "without A-RoPE" in capsys.readouterr().err
