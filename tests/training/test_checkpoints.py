"""Checkpoints are there whole or not at all; the average; random states."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from schemas.errors import WeightsError
from training import checkpoints
from training.checkpoints import Checkpoint, Checkpoints
from training.ema import Ema
from training.random_state import random_state, restore_random_state


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step=step, position={"epoch": 1}, ema_updates=0, skipped=0, random=[], settings={})


def write(run: Checkpoints, step: int) -> Path:
    with run.writing(checkpoint(step)) as folder:
        (folder / "model").mkdir()
        (folder / "model" / "trained.safetensors").write_bytes(b"1234")
    return run.folder / f"step-{step:08d}"


def test_the_newest_so_many_are_kept(tmp_path):
    run = Checkpoints(tmp_path, keep=2)
    assert run.newest() is None

    written = [write(run, step) for step in (5, 10, 15)]

    assert run.newest() == written[2]
    assert [each.exists() for each in written] == [False, True, True]
    assert checkpoints.read_checkpoint(written[2]).step == 15


def test_an_interrupted_one_is_none(tmp_path):
    run = Checkpoints(tmp_path, keep=2)
    first = write(run, 5)

    def break_off() -> None:
        with run.writing(checkpoint(10)) as folder:
            (folder / "half").write_bytes(b"12")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        break_off()

    assert run.newest() == first
    write(run, 15)
    assert sorted(path.name for path in run.folder.iterdir()) == ["step-00000005", "step-00000015"]


@pytest.mark.parametrize("damage", ["truncated", "gone", "no state", "state cut"])
def test_a_damaged_one_is_passed_over(tmp_path, damage):
    run = Checkpoints(tmp_path, keep=2)
    first, second = write(run, 5), write(run, 10)
    file = second / ("checkpoint.json" if "state" in damage else "model/trained.safetensors")

    if damage in ("gone", "no state"):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])

    assert run.newest() == first
    assert write(run, 10) == second
    assert run.newest() == second


def test_trained_weights_of_a_run_a_checkpoint_or_a_folder(tmp_path):
    folder = write(Checkpoints(tmp_path, keep=1), 5)
    model = folder / "model"
    (model / "settings.json").write_text("{}")

    assert checkpoints.trained_weights(tmp_path) == checkpoints.trained_weights(folder) == model
    assert checkpoints.trained_weights(model) == model
    (folder / "ema").mkdir()
    assert checkpoints.trained_weights(tmp_path) == folder / "ema"
    with pytest.raises(WeightsError, match="no trained weights"):
        checkpoints.trained_weights(tmp_path / "elsewhere")


def trained(steps: int = 3) -> tuple[nn.Module, list[str], torch.optim.AdamW]:
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.1)
    for _ in range(steps):
        net(torch.randn(4, 3)).square().mean().backward()
        optimiser.step()
    return net, [name for name, _ in net.named_parameters()], optimiser


def test_the_optimiser_goes_on_as_it_was(tmp_path):
    net, names, optimiser = trained()
    tensors = checkpoints.gathered(checkpoints.optimiser_tensors(optimiser, names), keep=True)
    checkpoints.save_optimiser(tensors, tmp_path)

    fresh = nn.Linear(3, 2)
    fresh.load_state_dict(net.state_dict())
    again = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    checkpoints.load_optimiser(again, names, tmp_path)
    for each, steps in ((net, optimiser), (fresh, again)):
        steps.zero_grad()
        each(torch.ones(4, 3)).square().mean().backward()
        steps.step()

    assert torch.equal(net.weight, fresh.weight)


@pytest.mark.parametrize("fault", ["shape", "name", "lacking", "damaged"])
def test_the_state_of_another_optimiser_is_refused(tmp_path, fault):
    _, names, optimiser = trained()
    tensors = checkpoints.gathered(checkpoints.optimiser_tensors(optimiser, names), keep=True)
    if fault == "shape":
        tensors["weight|exp_avg"] = torch.zeros(3, 3)
    elif fault == "name":
        tensors["other|exp_avg"] = torch.zeros(3, 2)
    elif fault == "lacking":
        tensors = {name: value for name, value in tensors.items() if not name.startswith("bias")}
    checkpoints.save_optimiser(tensors, tmp_path)
    if fault == "damaged":
        file = tmp_path / "optimiser.safetensors"
        file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(WeightsError, match=r"optimiser\.safetensors"):
        checkpoints.load_optimiser(torch.optim.AdamW(nn.Linear(3, 2).parameters()), names, tmp_path)


def test_the_average_by_hand():
    value = nn.Parameter(torch.tensor([1.0]))
    ema = Ema({"value": value}, decay=0.5)
    seen = []
    for number in (2.0, 3.0, 4.0):
        value.data.fill_(number)
        ema.update()
        seen.append(float(ema.average["value"]))

    # d is 2/11, 3/12 and 4/13 of the first updates, all below 0.5.
    first = 2 / 11 * 1 + 9 / 11 * 2
    second = 3 / 12 * first + 9 / 12 * 3
    assert seen == pytest.approx([first, second, 4 / 13 * second + 9 / 13 * 4])
    for _ in range(20):
        ema.update()
    value.data.fill_(5.0)
    before = float(ema.average["value"])
    ema.update()
    assert float(ema.average["value"]) == pytest.approx(0.5 * before + 2.5)


def test_parameters_come_back_from_the_average_even_after_an_error():
    value = nn.Parameter(torch.tensor([1.0]))
    ema = Ema({"value": value}, decay=0.9)
    value.data.fill_(7.0)

    def break_off() -> None:
        with ema.swapped():
            assert value.item() == 1.0
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        break_off()

    assert value.item() == 7.0
    assert ema.average["value"].item() == 1.0


def test_random_numbers_go_on_as_they_were():
    def numbers() -> list[float]:
        return [random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))]

    np.random.randn()  # leaves its twin for the next call
    state = random_state()
    first = numbers()
    numbers()

    restore_random_state(state)

    assert numbers() == first
