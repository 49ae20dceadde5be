"""What of the model trains, and its files.

settings.json        how the model was built
trained.safetensors  what was trained in full, under the names of the model's parameters
lora.safetensors     low-rank adapters, under the names that diffusers' `load_lora_weights` reads
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from schemas.errors import ConfigError, MissingExtraError, WeightsError
from training.model.settings import ModelSettings
from weights.checkpoints import listed

if TYPE_CHECKING:
    from training.model.itryon import ITryOn

_SETTINGS, _TRAINED, _LORA = "settings.json", "trained.safetensors", "lora.safetensors"
_BRANCH = ("backbone.vace_blocks.", "backbone.vace_patch_embedding.", "guider.")
_ADAPTER = ".default"
"""peft puts its adapter's name into those of parameters."""


def prepare(model: ITryOn) -> None:
    """Let what `model.settings.train` names require gradients, and nothing else; add adapters where it says LoRA."""
    train = model.settings.train
    model.requires_grad_(train == "full")
    if train == "lora":
        _add_adapters(model)
        if model.guider is not None:
            model.guider.requires_grad_(True)
    elif train == "branch":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(_BRANCH))


def save(model: ITryOn, folder: Path, *, state: Mapping[str, Tensor] | None = None) -> None:
    """Write what was trained of `model` to `folder`, which is made.

    Args:
        model: says which parameters those are.
        folder: for `settings.json`, `trained.safetensors` and, of adapters, `lora.safetensors`.
        state: values by the names of the model's parameters, where the model does not hold them itself: gathered from
            shards, or averaged. More than what was trained may be in it.

    Raises:
        WeightsError: `state` lacks some of it.

    """
    values = model.state_dict() if state is None else state
    if lacking := listed("lacks", _names(model) - values.keys()):
        raise WeightsError(f"the state to be saved {lacking}", where=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    own = {name: values[name].detach().cpu().contiguous() for name in sorted(_names(model))}
    full = {name: value for name, value in own.items() if not _is_lora(name)}
    adapters = {_public(name): value for name, value in own.items() if _is_lora(name)}
    for file, content in ((_TRAINED, full), (_LORA, adapters)):
        if content:
            save_file(content, folder / file)
    (folder / _SETTINGS).write_text(model.settings.model_dump_json(indent=1) + "\n")


def saved_settings(folder: Path) -> ModelSettings:
    """How the model was built whose trained weights lie in `folder`. Raises `WeightsError` where it cannot be read."""
    file = folder / _SETTINGS
    try:
        return ModelSettings.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise WeightsError(
            f"this does not tell how a model was built: {error}", where=str(file),
            allowed="a folder that training wrote a checkpoint of the model to",
        ) from error  # fmt: skip


def load(model: ITryOn, folder: Path) -> None:
    """Take over from `folder` what was trained.

    Raises:
        WeightsError: files are absent or damaged, or do not hold just what `model` trains, in its shapes, finite; it
            names what. Nothing is taken over then.

    """
    names = _names(model)
    given: dict[str, Tensor] = {}
    for file in (_TRAINED, _LORA):
        if any(_is_lora(name) == (file == _LORA) for name in names):
            given |= _read(folder / file)
    own = {name: parameter for name, parameter in model.named_parameters() if name in names}
    by_public = {_public(name): parameter for name, parameter in own.items()}
    faults = [
        listed("lacks", by_public.keys() - given.keys()),
        listed("has besides", given.keys() - by_public.keys()),
        listed(
            "has of another shape:",
            [
                f"{name} is {tuple(given[name].shape)}, not {tuple(parameter.shape)}"
                for name, parameter in by_public.items()
                if name in given and given[name].shape != parameter.shape
            ],
        ),
        listed("has NaN or infinity in", [name for name, value in given.items() if not value.isfinite().all()]),
    ]
    if any(faults):
        raise WeightsError(
            f"what was trained {'; '.join(filter(None, faults))}", where=str(folder),
            remedy="It is of a model of other settings, or damaged",
        )  # fmt: skip
    with torch.no_grad():
        for name, parameter in by_public.items():
            parameter.copy_(given[name])


def _names(model: ITryOn) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def _is_lora(name: str) -> bool:
    return ".lora_" in name


def _public(name: str) -> str:
    """The name of a parameter in a file: of an adapter, as diffusers wants it."""
    return name.replace("backbone.", "transformer.", 1).replace(_ADAPTER, "") if _is_lora(name) else name


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"this cannot be read: {error}", where=str(file), allowed="safetensors") from error


def _add_adapters(model: ITryOn) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("peft", "train", purpose="LoRA") from error
    lora = model.settings.lora
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
    try:
        inject_adapter_in_model(config, model.backbone)
    except ValueError as error:
        raise ConfigError(f"LoRA finds nothing to adapt: {error}", where="lora.targets") from error
