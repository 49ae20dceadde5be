"""What the model is given: the context of diffusers' own pipeline on the same pictures, values worked out by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

from PIL import Image

from schemas.annotation import ActionCaption
from schemas.errors import ConfigError, WeightsError
from tests.training.build import artifacts, members
from training.conditioning import Conditioner, Encoded, mask_channels
from training.decoding import SampleDecoder
from training.sample import Batch, collate, to_unit_range
from training.vae import VideoVae

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, HEIGHT, WIDTH = 9, 64, 48
HEM = ActionCaption(category="adjusting the hem", caption="pulls the hem", start_frame=5, end_frame=8)


@pytest.fixture(scope="module")
def conditioner(checkpoint: Path) -> Conditioner:
    return Conditioner.load(checkpoint)


def noise(*shape: int, seed: int) -> Tensor:
    """uint8 pictures of coarse noise."""
    coarse = torch.rand(*shape[:-2], shape[-2] // 8, shape[-1] // 8, generator=torch.Generator().manual_seed(seed))
    return (coarse.repeat_interleave(8, -2).repeat_interleave(8, -1) * 255).byte()


def batch_of(
    *, samples: int = 2, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH, **other: Any
) -> Batch:
    """A batch whose last sample has an action on its last four frames, where there are more than one."""
    mask = torch.zeros(samples, frames, 1, height, width, dtype=torch.bool)
    mask[:, :, :, 12:40, 9:30] = True
    actions = [[] for _ in range(samples - 1)] + [[HEM] if frames >= 9 else []]
    labels = torch.zeros(samples, frames, dtype=torch.bool)
    for sample, each in enumerate(actions):
        for action in each:
            labels[sample, action.start_frame : action.end_frame + 1] = True
    shape = (samples, frames, 3, height, width)
    batch: dict[str, Any] = {
        "key": [f"{number}" for number in range(samples)],
        "lengths": torch.full((samples,), frames),
        "video": noise(*shape, seed=1),
        "pose": noise(*shape, seed=2),
        "hands": noise(*shape, seed=3),
        "mask": mask,
        "garment": noise(samples, 3, height, width, seed=4),
        "labels": labels,
        "global_caption": [f"Person {number} stands." for number in range(samples)],
        "actions": actions,
    }
    return batch | other  # type: ignore[return-value]


def video_of(pictures: Tensor) -> Tensor:
    """(B, T, 3, H, W) uint8 → (B, 3, T, H, W) float32 -1..1."""
    return to_unit_range(pictures).transpose(1, 2)


# The VAE


def test_latents_are_normalised_and_decode_as_they_were(conditioner: Conditioner) -> None:
    vae, video = conditioner.vae, video_of(noise(2, 9, 3, 64, 48, seed=0))
    latents = vae.encode(video)
    assert latents.shape == (2, 16, 3, 8, 6)
    assert latents.dtype == torch.float32
    assert abs(float(latents.mean())) < 0.5
    assert 0.3 < float(latents.std()) < 3  # those of the bare network are of about 0.15
    decoded = vae.decode(latents)
    assert decoded.shape == video.shape
    bare = vae.network.decode(vae.network.encode(video).latent_dist.mode()).sample
    torch.testing.assert_close(decoded, bare, atol=1e-4, rtol=1e-4)


def test_a_video_is_encoded_alike_in_any_batch(conditioner: Conditioner) -> None:
    videos = video_of(noise(3, 5, 3, 32, 32, seed=0))
    together = conditioner.vae.encode(videos)
    torch.testing.assert_close(conditioner.vae.encode(videos[1:2]), together[1:2])
    assert not together.requires_grad


def test_one_frame_is_one_latent_frame(conditioner: Conditioner) -> None:
    assert conditioner.vae.encode(torch.zeros(1, 3, 1, 32, 32)).shape == (1, 16, 1, 4, 4)


@pytest.mark.parametrize(("shape", "what"), [((8, 32, 32), "8 frames"), ((5, 36, 32), "36×32"), ((5, 32, 30), "32×30")])
def test_videos_that_cannot_be_encoded(conditioner: Conditioner, shape: tuple[int, int, int], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        conditioner.vae.encode(torch.zeros(1, 3, *shape))


def test_latents_of_the_tiny_checkpoint_tell_videos_apart(conditioner: Conditioner) -> None:
    black, white, other = (
        conditioner.vae.encode(video)
        for video in (
            -torch.ones(1, 3, 5, 32, 32),
            torch.ones(1, 3, 5, 32, 32),
            video_of(noise(1, 5, 3, 32, 32, seed=1)),
        )
    )
    for one, another in ((black, white), (black, other), (white, other)):
        assert float((one - another).square().mean().sqrt()) > 0.5


def test_damaged_weights(tmp_path: Path, checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint / "vae", tmp_path / "vae")
    file = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    values = load_file(file)
    kernel = values.pop("quant_conv.weight")
    save_file(values, file)
    with pytest.raises(WeightsError, match="lacks quant_conv.weight"):
        VideoVae.load(tmp_path)
    save_file(values | {"quant_conv.weight": kernel, "more": kernel.clone()}, file)
    with pytest.raises(WeightsError, match="has besides more"):
        VideoVae.load(tmp_path)
    save_file(values | {"quant_conv.weight": kernel[:3].clone()}, file)
    with pytest.raises(WeightsError, match="quant_conv.weight"):
        VideoVae.load(tmp_path)
    with pytest.raises(WeightsError, match=r"no config\.json of a vae"):
        VideoVae.load(tmp_path / "vae")


# The context


def test_context_is_that_of_the_pipeline(checkpoint: Path, conditioner: Conditioner) -> None:
    from diffusers import WanVACEPipeline

    pipeline = WanVACEPipeline.from_pretrained(checkpoint, local_files_only=True)
    garment = noise(1, 3, 32, 24, seed=4).fill_(90)  # flat: how the two resample differs otherwise
    batch = batch_of(samples=1, garment=garment[:, :, :, :16])
    batch["pose"] = batch["video"]  # VACE's own: both parts are of one video
    frames = [Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in batch["video"][0]]
    masks = [Image.fromarray(mask[0].numpy().astype(np.uint8) * 255).convert("RGB") for mask in batch["mask"][0]]
    reference = Image.fromarray(batch["garment"][0].permute(1, 2, 0).numpy())
    video, mask, references = pipeline.preprocess_conditions(
        frames, masks, [reference], height=HEIGHT, width=WIDTH, dtype=torch.float32, device="cpu"
    )
    theirs = torch.cat(
        [
            pipeline.prepare_video_latents(video, mask, references, device="cpu"),
            pipeline.prepare_masks(mask, references),
        ],
        1,
    )
    ours = conditioner.conditions(batch).context
    assert ours.shape == (1, 96, 4, 8, 6)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_pose_and_agnostic_share_the_context(conditioner: Conditioner) -> None:
    batch = batch_of()
    context = conditioner.conditions(batch).context
    inside, video, pose = batch["mask"].transpose(1, 2), video_of(batch["video"]), video_of(batch["pose"])
    encode = conditioner.vae.encode
    torch.testing.assert_close(context[:, :16, 1:], encode(torch.where(inside, 0, video)))
    torch.testing.assert_close(context[:, 16:32, 1:], encode(torch.where(inside, pose, 0)))
    torch.testing.assert_close(context[:, :16, :1], encode(video_of(batch["garment"][:, None])))
    assert not context[:, 16:, 0].any()
    everywhere = Conditioner(conditioner.vae, conditioner.text, pose="everywhere").conditions(batch).context
    torch.testing.assert_close(everywhere[:, 16:32, 1:], encode(pose))
    torch.testing.assert_close(everywhere[:, :16], context[:, :16])


def test_what_is_repainted_is_not_given_away(conditioner: Conditioner) -> None:
    batch, other = batch_of(), batch_of()
    other["video"] = torch.where(batch["mask"], noise(*batch["video"].shape, seed=9), batch["video"])
    one, another = conditioner(batch), conditioner(other)
    assert torch.equal(one.conditions.context, another.conditions.context)
    assert not torch.equal(one.latents, another.latents)


def test_mask_channels() -> None:
    mask = torch.zeros(1, 9, 16, 32, dtype=torch.bool)
    mask[0, 4, 9, 18] = True  # latent pixel (1, 2): row 1 and column 2 of its 8×8, so channel 10
    mask[0, 1, 0, 7] = True
    mask[0, 5, 15, 31] = True  # nearest to the latent frames 0, 1, 2 are the frames 1, 4, 7
    channels = mask_channels(mask)
    assert channels.shape == (1, 64, 3, 2, 4)
    assert channels.nonzero().tolist() == [[0, 7, 0, 0, 0], [0, 10, 1, 1, 2]]


def test_a_garment_is_fitted_on_white(conditioner: Conditioner) -> None:
    garment = noise(1, 3, 64, 16, seed=4)
    canvas = torch.full((1, 3, 64, 48), 255, dtype=torch.uint8)
    canvas[..., 16:32] = garment
    narrow, fitted = (conditioner.conditions(batch_of(samples=1, garment=each)) for each in (garment, canvas))
    torch.testing.assert_close(narrow.context, fitted.context)
    wide = conditioner.conditions(batch_of(samples=1, garment=torch.full((1, 3, 50, 200), 255, dtype=torch.uint8)))
    white = conditioner.conditions(batch_of(samples=1, garment=torch.full_like(canvas, 255)))
    torch.testing.assert_close(wide.context, white.context)


# All of it


@pytest.fixture(scope="module")
def whole(conditioner: Conditioner) -> Encoded:
    return conditioner(batch_of())


def test_target_is_the_reference_and_the_video(whole: Encoded, conditioner: Conditioner) -> None:
    assert whole.latents.shape == (2, 16, 4, 8, 6)
    assert whole.latents.dtype == torch.float32
    torch.testing.assert_close(whole.latents[:, :, :1], whole.conditions.context[:, :16, :1])
    torch.testing.assert_close(whole.latents[:, :, 1:], conditioner.vae.encode(video_of(batch_of()["video"])))


def test_hands_have_zeros_for_the_reference(whole: Encoded, conditioner: Conditioner) -> None:
    hands = whole.conditions.hands
    assert not hands[:, :, 0].any()
    torch.testing.assert_close(hands[:, :, 1:], conditioner.vae.encode(video_of(batch_of()["hands"])))


def test_actions_are_told_in_latent_frames(whole: Encoded) -> None:
    assert whole.interactive.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    conditions = whole.conditions
    assert conditions.segments.frames.tolist() == [[-1, 0, 0, 0], [-1, 0, 0, 1]]
    assert conditions.segments.interactive.tolist() == [[False, False], [False, True]]
    overall, action = len("Person 0 stands.") + 1, len("pulls the hem") + 1  # bytes, and an end token each
    assert conditions.captions.mask.sum(1).tolist() == [overall, overall + action]
    assert (conditions.captions.segments == 1).sum(1).tolist() == [0, action]


def test_repaint_marks_tokens_with_any_pixel(conditioner: Conditioner) -> None:
    mask = torch.zeros(1, FRAMES, 1, HEIGHT, WIDTH, dtype=torch.bool)
    mask[0, 3, 0, 15, 16] = mask[0, 8, 0, 63, 47] = mask[0, 0, 0, 16, 15] = True
    repaint = conditioner(batch_of(samples=1, mask=mask)).repaint
    assert repaint.shape == (1, 3, 4, 3)
    assert repaint.nonzero().tolist() == [[0, 0, 1, 0], [0, 1, 0, 1], [0, 2, 3, 2]]


def test_latents_that_are_known_are_not_made_again(conditioner: Conditioner, whole: Encoded) -> None:
    batch = batch_of()
    video, pictures = conditioner.vae.encode(video_of(batch["video"])), conditioner.condition_latents(batch)
    rest: Any = {name: batch[name] for name in ("mask", "labels", "global_caption", "actions")}
    encoded = conditioner.of_latents(rest, video=video, pictures=pictures)
    torch.testing.assert_close(encoded.latents, whole.latents)
    torch.testing.assert_close(encoded.conditions.context, whole.conditions.context)
    torch.testing.assert_close(encoded.conditions.hands, whole.conditions.hands)
    torch.testing.assert_close(encoded.conditions.captions.tokens, whole.conditions.captions.tokens)
    assert torch.equal(encoded.repaint, whole.repaint)
    assert torch.equal(encoded.interactive, whole.interactive)


def test_a_batch_is_its_samples(conditioner: Conditioner, whole: Encoded) -> None:
    batch = batch_of()
    alone: Batch = {name: values[1:] for name, values in batch.items()}  # type: ignore[assignment,index]
    encoded = conditioner(alone)
    torch.testing.assert_close(encoded.latents, whole.latents[1:])
    torch.testing.assert_close(encoded.conditions.context, whole.conditions.context[1:])
    torch.testing.assert_close(encoded.conditions.captions.tokens, whole.conditions.captions.tokens[1:])
    assert torch.equal(encoded.repaint, whole.repaint[1:])


def test_unconditional_is_what_dropout_of_captions_trains(conditioner: Conditioner, whole: Encoded) -> None:
    conditions = whole.conditions
    without = conditioner.unconditional(conditions)
    dropped = batch_of(
        global_caption=["", ""],
        actions=[[action.model_copy(update={"caption": ""}) for action in each] for each in batch_of()["actions"]],
    )
    trained = conditioner.conditions(dropped)
    torch.testing.assert_close(without.captions.tokens, trained.captions.tokens)
    assert without.captions.mask.tolist() == trained.captions.mask.tolist() == [[True, False], [True, True]]
    assert without.captions.segments.tolist() == trained.captions.segments.tolist() == [[-1, -1], [-1, 1]]
    assert without.context is conditions.context
    assert without.segments is conditions.segments
    negative = conditioner.unconditional(conditions, caption="blurry")
    torch.testing.assert_close(negative.captions.tokens[0, :7], conditioner.text.encode(["blurry"])[0])


def test_without_hands(conditioner: Conditioner) -> None:
    batch = batch_of(samples=1)
    del batch["hands"]
    with pytest.raises(ConfigError, match="no hands picture"):
        conditioner(batch)
    conditions = Conditioner(conditioner.vae, conditioner.text, hands=False).conditions(batch)
    assert conditions.hands.shape == (1, 16, 4, 8, 6)
    assert not conditions.hands.any()


def test_one_frame_and_nothing_to_repaint(conditioner: Conditioner) -> None:
    batch = batch_of(samples=1, frames=1)
    batch["mask"] = torch.zeros_like(batch["mask"])
    encoded = conditioner(batch)
    assert encoded.latents.shape == (1, 16, 2, 8, 6)
    assert not encoded.repaint.any()
    assert encoded.conditions.captions.tokens.isfinite().all()
    torch.testing.assert_close(encoded.conditions.context[:, :16], encoded.latents)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"frames": 8}, "8 frames"),
        ({"height": 72}, "72×48"),
        ({"lengths": torch.tensor([9, 5])}, "5 frames in a batch of 9"),
    ],
)
def test_batches_that_cannot_be(conditioner: Conditioner, change: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        conditioner(batch_of(**change))


def test_stored_samples(conditioner: Conditioner) -> None:
    values = artifacts(frames=5)
    sample = SampleDecoder()("pair000-00000000", members(values, key="pair000-00000000"), where="a test")
    encoded = conditioner(collate([sample, sample]))
    assert encoded.latents.shape == (2, 16, 3, 8, 6)
    assert encoded.interactive.tolist() == [[0, 0, 1]] * 2
    assert all(tensor.isfinite().all() for tensor in (encoded.latents, encoded.conditions.context))


def test_bfloat16(checkpoint: Path, whole: Encoded) -> None:
    encoded = Conditioner.load(checkpoint, dtype=torch.bfloat16)(batch_of())
    assert encoded.latents.dtype == encoded.conditions.context.dtype == torch.float32
    assert float((encoded.latents - whole.latents).square().mean().sqrt()) < 0.1
    torch.testing.assert_close(encoded.conditions.context[:, 32:], whole.conditions.context[:, 32:])
