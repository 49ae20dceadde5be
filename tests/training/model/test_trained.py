"""What is written of a trained model, and what is refused when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.errors import WeightsError
from tests.training.model.build import conditions, latents, model, opened
from training.model.backbone import load_backbone
from training.model.trained import saved_settings

Damage = Callable[[Path], None]


@pytest.mark.parametrize("train", ["branch", "full", "lora"])
@pytest.mark.parametrize("guider", [True, False])
def test_reloaded_it_gives_the_same_bits(base: Path, tmp_path: Path, train: str, guider: bool):
    trained = opened(model(base, train=train, guider=guider))
    trained.save(tmp_path / "checkpoint")
    other = model(base, seed=9, train=train, guider=guider, guider_start="random")
    untrained = other(*latents(), conditions()).velocity
    other.load_trained(tmp_path / "checkpoint")

    found = other(*latents(), conditions()).velocity
    assert torch.equal(found, trained(*latents(), conditions()).velocity)
    assert not torch.allclose(found, untrained)
    assert saved_settings(tmp_path / "checkpoint") == trained.settings


def test_only_what_was_trained_is_written(base: Path, tmp_path: Path):
    model(base, train="branch").save(tmp_path)
    names = load_file(tmp_path / "trained.safetensors").keys()

    assert {name.split(".")[1] for name in names} == {
        "vace_blocks",
        "vace_patch_embedding",
        "blocks",
        "patch_embedding",
    }
    assert not [name for name in names if name.startswith("backbone.blocks")]
    assert not (tmp_path / "lora.safetensors").exists()


def test_lora_is_read_by_diffusers(base: Path, tmp_path: Path):
    """On its own, into the plain backbone: without hands and actions that gives what the model gives."""
    trained = opened(model(base, train="lora", guider=False, text_length=0))
    trained.save(tmp_path)
    plain, given = load_backbone(base, dtype=torch.float32), conditions(actions=False)
    plain.load_lora_adapter(load_file(tmp_path / "lora.safetensors"), prefix="transformer")

    noisy, sigma = latents()
    with torch.no_grad():
        found = plain(
            hidden_states=noisy, timestep=sigma * 1000, encoder_hidden_states=given.captions.tokens,
            control_hidden_states=given.context, return_dict=False,
        )[0]  # fmt: skip
    torch.testing.assert_close(found, trained(noisy, sigma, given).velocity)
    assert not (tmp_path / "trained.safetensors").exists()


def test_values_held_elsewhere_are_written_instead(base: Path, tmp_path: Path):
    """Gathered from shards, or averaged: beside them there may be more, but nothing may lack."""
    network = model(base)
    state = {name: value + 1 for name, value in network.state_dict().items()}
    network.save(tmp_path, state=state)
    name = "guider.blocks.0.proj_out.bias"
    assert torch.equal(load_file(tmp_path / "trained.safetensors")[name], state[name])

    del state[name]
    with pytest.raises(WeightsError, match=rf"lacks {name}"):
        network.save(tmp_path, state=state)


def lose(name: str) -> Damage:
    return edit(lambda values: values.pop(name))


def edit(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        values = load_file(folder / "trained.safetensors")
        change(values)
        save_file(values, folder / "trained.safetensors")

    return damage


def cut(folder: Path) -> None:
    file = folder / "trained.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


BIAS = "guider.patch_embedding.bias"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "lacking": (lose(BIAS), rf"lacks {BIAS}"),
    "foreign": (edit(lambda values: values.update(other=torch.zeros(1))), "has besides other"),
    "misshapen": (edit(lambda values: values.update({BIAS: torch.zeros(3)})), rf"{BIAS} is \(3,\), not \(48,\)"),
    "nan": (edit(lambda values: values[BIAS].fill_(torch.nan)), rf"NaN or infinity in {BIAS}"),
    "cut": (cut, r"trained\.safetensors: .*cannot be read"),
    "empty": (lambda folder: (folder / "trained.safetensors").write_bytes(b""), "cannot be read"),
    "absent": (lambda folder: (folder / "trained.safetensors").unlink(), "cannot be read"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_files_are_refused_and_change_nothing(base: Path, tmp_path: Path, damage: Damage, words: str):
    opened(model(base)).save(tmp_path)
    damage(tmp_path)
    network = model(base)
    before = {name: value.clone() for name, value in network.state_dict().items()}

    with pytest.raises(WeightsError, match=words):
        network.load_trained(tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_files_of_a_model_of_other_settings_are_refused(base: Path, tmp_path: Path):
    model(base, guider=False).save(tmp_path)
    with pytest.raises(WeightsError, match=r"lacks guider\.blocks.* and \d+ more"):
        model(base).load_trained(tmp_path)
    with pytest.raises(WeightsError, match=r"lora\.safetensors: .*cannot be read"):
        model(base, train="lora", guider=False).load_trained(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{}", '{"base": "tiny", "more": 1}'])
def test_settings_that_cannot_be_read(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(WeightsError, match=r"settings\.json: .*how a model was built"):
        saved_settings(tmp_path)
