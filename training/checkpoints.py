"""Checkpoints of a run: folders that are there whole or not at all, of which the last few are kept.

    checkpoints/step-00000200/
      checkpoint.json         how far the run was, and the size of every other file
      model/, ema/            what was trained, and its average (`ITryOn.save`)
      optimiser.safetensors   moments and steps, named PARAMETER|exp_avg and so on

Tensors lie in them whole, whatever number of ranks trained them in whatever shards, and no file is a pickle.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from schemas.errors import WeightsError
from weights.checkpoints import listed

MODEL, EMA = "model", "ema"
_STATE = "checkpoint.json"
_UNFINISHED = ".unfinished"
_OPTIMISER = "optimiser.safetensors"


class Checkpoint(BaseModel):
    """How far a run was.

    Attributes:
        step: optimiser steps taken.
        position: of the data, of `BatchPlan.state_dict`.
        ema_updates: of the average; 0 without one.
        skipped: damaged samples left out so far.
        random: states of the random generators, by rank.
        settings: of the run.
        files: path in the folder → bytes.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = Field(1, ge=1, le=1)
    step: int
    position: dict[str, Any]
    ema_updates: int
    skipped: int
    random: list[dict[str, Any]]
    settings: dict[str, Any]
    files: dict[str, int] = {}


class Checkpoints:
    """The checkpoints of the run in the folder `run`, the last `keep` of them."""

    def __init__(self, run: Path, *, keep: int) -> None:
        self.folder, self.keep = run / "checkpoints", keep

    def newest(self) -> Path | None:
        """The newest whole checkpoint."""
        return next((folder for folder in reversed(self._folders()) if read_checkpoint(folder) is not None), None)

    @contextmanager
    def writing(self, checkpoint: Checkpoint) -> Iterator[Path]:
        """A folder to write the files of `checkpoint` into, which becomes one of the checkpoints as the block ends.

        Only then older ones are removed. If the block raises, or the process dies in it, there is no new checkpoint.
        """
        target = self.folder / f"step-{checkpoint.step:08d}"
        unfinished = target.with_suffix(_UNFINISHED)
        for rest in self.folder.glob(f"*{_UNFINISHED}"):
            shutil.rmtree(rest)
        unfinished.mkdir(parents=True)
        yield unfinished
        written = [file for file in unfinished.rglob("*") if file.is_file()]
        sizes = {file.relative_to(unfinished).as_posix(): file.stat().st_size for file in written}
        state = unfinished / _STATE
        state.write_text(checkpoint.model_copy(update={"files": sizes}).model_dump_json(), "utf-8")
        for path in (*written, state, unfinished):
            _to_disk(path)
        shutil.rmtree(target, ignore_errors=True)  # only one that is not whole: a run goes on from the newest that is
        unfinished.rename(target)
        _to_disk(self.folder)
        for old in self._folders()[: -self.keep]:
            shutil.rmtree(old)

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-" + "[0-9]" * 8))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """What the checkpoint in `folder` says of itself, or None if it is not whole."""
    try:
        found = Checkpoint.model_validate_json((folder / _STATE).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in found.files.items())
    except (OSError, ValidationError):
        return None
    return found if whole else None


def trained_weights(place: Path) -> Path:
    """The folder with trained weights, as `ITryOn.load_trained` reads it, that `place` means.

    Args:
        place: folder of a run, which means its newest checkpoint; a checkpoint, which means its average, or the
            weights themselves where no average was kept; or a folder with weights.

    Raises:
        WeightsError: it is none of these.

    """
    if (place / "settings.json").is_file():
        return place
    checkpoint = place if (place / _STATE).is_file() else Checkpoints(place, keep=1).newest()
    if checkpoint is None or read_checkpoint(checkpoint) is None:
        raise WeightsError(
            "there are no trained weights",
            where=str(place),
            allowed="a run's folder with a whole checkpoint, a checkpoint, or a folder with settings.json",
        )
    return next(folder for name in (EMA, MODEL) if (folder := checkpoint / name).is_dir())


def _to_disk(path: Path) -> None:
    """Have the file or folder survive a loss of power."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# ---- tensors, whole and sharded


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Tensors on the CPU, shards put together; nothing unless `keep`. With shards, every rank has to call this."""
    found = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if keep:
            found[name] = full.detach().cpu().contiguous()
    return found


def placed_like(value: Tensor, like: Tensor) -> Tensor:
    """The whole tensor `value` on the device, in the dtype and in the shards of `like`."""
    value = value.to(like.device, like.dtype)
    if not isinstance(like, DTensor):
        return value
    # Every rank has read the same file: nothing is sent.
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def optimiser_tensors(optimiser: torch.optim.Optimizer, names: list[str]) -> dict[str, Tensor]:
    """NAME|KEY → tensor of the optimiser's state; `names` are those of its parameters, in order."""
    return {
        f"{name}|{key}": value
        for name, parameter in zip(names, _parameters(optimiser), strict=True)
        for key, value in optimiser.state[parameter].items()
    }


def save_optimiser(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write what `optimiser_tensors` gave, gathered, into a checkpoint's folder."""
    save_file(tensors, folder / _OPTIMISER)


def load_optimiser(optimiser: torch.optim.Optimizer, names: list[str], folder: Path) -> None:
    """Take up the state that lies in a checkpoint's folder, all of it or none.

    Raises:
        WeightsError: it is damaged, or of other parameters.

    """
    file = folder / _OPTIMISER
    try:
        stored = load_file(file)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"the optimiser's state cannot be read: {error}", where=str(file)) from error
    parameters = dict(zip(names, _parameters(optimiser), strict=True))
    state: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for full_name, value in stored.items():
        name, _, key = full_name.rpartition("|")
        if name not in parameters or (value.ndim and value.shape != parameters[name].shape):
            raise WeightsError(f"it has {full_name}, which does not fit what is trained", where=str(file))
        state[name][key] = placed_like(value, parameters[name].detach()) if value.ndim else value
    if lacking := listed("it lacks", [name for name in names if not state[name]]):
        raise WeightsError(lacking, where=str(file))
    optimiser.load_state_dict(
        {"state": dict(enumerate(state.values())), "param_groups": optimiser.state_dict()["param_groups"]}
    )


def _parameters(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]
