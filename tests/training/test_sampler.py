"""The denoising loop: against values worked out by hand, and against diffusers' own pipeline on the same checkpoint."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from schemas.errors import ConfigError
from tests.training.model.build import conditions, model, opened
from training.conditioning import Conditioner
from training.generation_settings import SamplerSettings
from training.model.inputs import Conditions
from training.model.itryon import ITryOn, Prediction
from training.model.settings import ModelSettings
from training.sample import collate
from training.sampler import make_scheduler, sample
from training.tiny import write_tiny_checkpoint

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_tiny_checkpoint(folder)
    return folder


class Straight:
    """A model of known velocity: `towards` where there are captions, `free` where there are none."""

    def __init__(self, *, towards: float, free: float = 0.0) -> None:
        self.velocities = {True: towards, False: free}
        self.sigmas: list[Tensor] = []

    def __call__(self, latents: Tensor, sigma: Tensor, given: Conditions) -> Prediction:
        self.sigmas.append(sigma)
        return Prediction(torch.full_like(latents, self.velocities[bool(given.captions.mask.any())]), None)


def without_captions(given: Conditions) -> Conditions:
    given.captions.mask[:] = False
    return given


def noise(seed: int) -> Tensor:
    return torch.randn(16, 5, 4, 6, generator=torch.Generator().manual_seed(seed))


class TestByHand:
    @pytest.mark.parametrize("scheduler", ["unipc", "euler"])
    @pytest.mark.parametrize("steps", [1, 4])
    def test_a_straight_path_ends_at_noise_minus_velocity(self, scheduler: str, steps: int) -> None:
        settings = SamplerSettings(scheduler=scheduler, steps=steps, guidance=1)
        straight: Any = Straight(towards=0.5)
        made = sample(straight, conditions(batch=1), None, seeds=[7], settings=settings)
        torch.testing.assert_close(made[0], noise(7)[:, 1:] - 0.5, atol=1e-4, rtol=0)
        assert len(straight.sigmas) == steps

    def test_guidance_leads_away_from_what_no_captions_give(self) -> None:
        settings = SamplerSettings(scheduler="euler", steps=2, guidance=3)
        straight: Any = Straight(towards=0.5, free=0.2)
        made = sample(
            straight, conditions(batch=1), without_captions(conditions(batch=1)), seeds=[7], settings=settings
        )
        torch.testing.assert_close(made[0], noise(7)[:, 1:] - (0.2 + 3 * (0.5 - 0.2)), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("scheduler", ["unipc", "euler"])
    def test_noise_levels_are_even_ones_shifted_once(self, scheduler: str) -> None:
        found = make_scheduler(SamplerSettings(scheduler=scheduler, steps=4, shift=5), device=CPU).sigmas
        # 1, 3/4, 1/2, 1/4 by 5σ / (1 + 4σ), but for a thousandth by which both begin to count from above 0
        assert found.tolist() == pytest.approx([1, 15 / 16, 5 / 6, 5 / 8, 0], abs=2e-3)

    def test_each_sample_has_its_own_noise_whatever_batch_it_is_in(self) -> None:
        settings = SamplerSettings(steps=2, guidance=1)
        straight: Any = Straight(towards=0.5)
        together = sample(straight, conditions(batch=2), None, seeds=[7, 8], settings=settings)
        alone = sample(straight, conditions(batch=1), None, seeds=[8], settings=settings)
        torch.testing.assert_close(together[1:], alone)
        assert not torch.allclose(together[0], together[1])


class TestWrong:
    def test_seeds_that_are_not_one_a_sample(self) -> None:
        with pytest.raises(ConfigError, match=r"1 seed\(s\) for 2 sample\(s\)"):
            sample(Straight(towards=0), conditions(), None, seeds=[1], settings=SamplerSettings(guidance=1))  # type: ignore[arg-type]

    def test_guidance_without_what_it_leads_away_from(self) -> None:
        with pytest.raises(ConfigError, match="guidance 1"):
            sample(Straight(towards=0), conditions(), None, seeds=[1, 2], settings=SamplerSettings())  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "values", [{"steps": 0}, {"guidance": 0.5}, {"shift": 0}, {"scheduler": "ddim"}, {"eta": 1}]
    )
    def test_settings(self, values: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            SamplerSettings(**values)


HEIGHT, WIDTH, FRAMES = 32, 48, 9


def pictures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A video, what is to be repainted of it, and a garment of its size."""
    random = np.random.default_rng(3)
    video = random.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    mask = np.zeros((FRAMES, HEIGHT, WIDTH), bool)
    mask[:6, 8:25, 10:37] = True
    return video, mask, random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@cache
def of_diffusers(base: Path, caption: str, *, steps: int, guidance: float) -> Tensor:
    """What diffusers makes of them: what controls the masked region is there the video itself."""
    from diffusers import WanVACEPipeline

    video, mask, garment = pictures()
    pipeline: Any = WanVACEPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(
        video=[Image.fromarray(frame) for frame in video],
        mask=[Image.fromarray(frame.astype(np.uint8) * 255) for frame in mask],
        reference_images=[Image.fromarray(garment)],
        prompt=caption,
        negative_prompt="",
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(11),
        output_type="np",
    )
    return torch.from_numpy(made.frames[0])


def of_ours(network: ITryOn, base: Path, caption: str, *, settings: SamplerSettings) -> Tensor:
    video, mask, garment = pictures()
    planes = torch.from_numpy(video).permute(0, 3, 1, 2)
    batch = collate([
        {
            "key": "a-00000000", "video": planes, "pose": planes, "hands": torch.zeros_like(planes),
            "mask": torch.from_numpy(mask)[:, None], "labels": torch.zeros(FRAMES, dtype=torch.bool),
            "garment": torch.from_numpy(garment).permute(2, 0, 1), "global_caption": caption, "actions": [],
        }  # type: ignore[typeddict-item]
    ])  # fmt: skip
    conditioner = Conditioner.load(base)
    given = conditioner.conditions(batch)
    made = sample(network, given, conditioner.unconditional(given), seeds=[11], settings=settings)
    return (conditioner.vae.decode(made)[0].permute(1, 2, 3, 0) + 1) / 2


@pytest.mark.parametrize("guider", [False, True])
def test_the_video_is_that_of_diffusers_pipeline_from_the_same_checkpoint_seed_and_inputs(
    base: Path, guider: bool
) -> None:
    # Without training the Guider adds nothing; without actions A-RoPE turns nothing.
    network = ITryOn.load(ModelSettings(base=str(base), guider=guider)).eval()
    settings = SamplerSettings(steps=3, guidance=5, shift=5)
    expected = of_diffusers(base, "A person stands &amp; adjusts  the hem.", steps=3, guidance=5)
    made = of_ours(network, base, "A person stands &amp; adjusts  the hem.", settings=settings)
    assert made.shape == expected.shape == (FRAMES, HEIGHT, WIDTH, 3)
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)
    assert expected.std() > 0.01


def test_the_hand_prior_matters_once_the_guider_is_trained(base: Path) -> None:
    network = opened(model(base)).eval()
    settings = SamplerSettings(steps=2, guidance=1)
    given = conditions(batch=1)
    seen = sample(network, given, None, seeds=[1], settings=settings)
    given.hands.zero_()
    assert not torch.allclose(seen, sample(network, given, None, seeds=[1], settings=settings), atol=1e-3)
