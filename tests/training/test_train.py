"""Training runs from end to end: resume, several processes, what is learnt, what is written."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from media.reader import open_reader
from schemas.errors import ConfigError, DatasetError, WeightsError
from tests.training.build import write_dataset
from training.runlog import RunLog
from training.settings_file import read_settings
from training.train import train
from training.train_settings import TrainSettings
from training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "configs" / "train_tiny.yaml"
pytestmark = pytest.mark.usefixtures("one_thread")


class Runs:
    """Runs of the tiny config on a small dataset, in the folder `root`."""

    def __init__(self, root: Path, base: Path) -> None:
        self.root = root
        self.dataset = root / "dataset"
        self.common = [
            f"data.dataset={self.dataset}", f"model.base={base}", "data.frames=5", "data.buckets=[[32,32]]",
            "data.workers=0", "optimiser.lr=5e-4", "validation.every=0", "logging.every=1", "logging.trackers=[]",
        ]  # fmt: skip

    def overrides(self, name: str, *more: str) -> list[str]:
        return [*self.common, f"out={self.root / name}", *more]

    def trainer(self, name: str, *more: str) -> Trainer:
        return Trainer(read_settings(TrainSettings, TINY, self.overrides(name, *more)))

    def run(self, name: str, *more: str) -> Path:
        assert self.trainer(name, *more).run() == 0
        return self.root / name

    def command(self, name: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "training.train", str(TINY), *self.overrides(name, *more)]


@pytest.fixture
def runs(tmp_path: Path, checkpoint: Path) -> Runs:
    found = Runs(tmp_path, checkpoint)
    write_dataset(found.dataset, [3], test=2, frames=9)
    return found


def start(command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_at(process: subprocess.Popen[str], words: str) -> None:
    """Kill the process and its data workers as it says `words`."""
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.startswith(words):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL, said


def metrics(run: Path, name: str = "loss") -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if name in line]
    assert len({line["step"] for line in found}) == len(found)
    return {line["step"]: line[name] for line in found}


def weights(run: Path, part: str = "model/trained") -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").iterdir())[-1] / f"{part}.safetensors")


def assert_near(left: dict[Any, Any], right: dict[Any, Any], *, within: float) -> None:
    assert left.keys() == right.keys()
    furthest = {name: float(torch.as_tensor(left[name] - right[name]).abs().max()) for name in left}
    assert max(furthest.values()) <= within, max(furthest.items(), key=lambda each: each[1])


def test_killed_and_stopped_it_goes_on_as_if_nothing_had_been(runs, monkeypatch, capsys):
    steps = ["steps=22", "checkpoints.every=4", "checkpoints.keep=2"]
    whole = runs.run("whole", *steps)

    kill_at(start(runs.command("broken", *steps, "data.workers=2")), "step 10/22")
    broken = runs.root / "broken"
    with (broken / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')  # a line that was being written
    with monkeypatch.context() as patched:
        patched.setattr(RunLog, "say", lambda _, words: words.startswith("step 18") and signal.raise_signal(15))
        with pytest.raises(typer.Exit) as ended:
            train(str(TINY), runs.overrides("broken", *steps))
    assert ended.value.exit_code == 128 + signal.SIGTERM
    assert max(metrics(broken)) == 19  # it is heard before the next step, which is taken to its end
    runs.run("broken", *steps)
    assert "goes on from step 19" in capsys.readouterr().out

    assert_near(metrics(whole), metrics(broken), within=1e-6)
    for part in ("model/trained", "ema/trained", "optimiser"):
        assert_near(weights(whole, part), weights(broken, part), within=1e-6)
    kept = sorted(path.name for path in (broken / "checkpoints").iterdir())
    assert kept == ["step-00000020", "step-00000022"]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_two_processes_do_what_one_does_with_twice_the_batch(runs):
    # Where a gradient is nearly 0, Adam makes a full step of its rounding errors; not with this eps.
    steps = ["steps=3", "accumulate=2", "checkpoints.every=2", "optimiser.eps=1e-4"]
    validation = ["validation.every=1", "validation.samples=2", "validation.videos=0", "validation.sigmas=[0.5]"]
    one = runs.run("one", *steps, *validation, "data.batch=2")

    config = runs.root / "config.yaml"
    config.write_text((one / "config.yaml").read_text().replace("batch: 2", "batch: 1"))
    ddp, fsdp = runs.root / "ddp", runs.root / "fsdp"
    sharded_and_resumed = [f"fsdp,{fsdp},2", f"fsdp,{fsdp},3"]
    command = [sys.executable, "-m", "tests.training.ranks", str(config), f"ddp,{ddp},3", *sharded_and_resumed]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [start(command, RANK=rank, LOCAL_RANK=rank, **group) for rank in "01"]
    said = [process.communicate(timeout=200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said

    assert "by 2 processes" in said[0]
    for two in (ddp, fsdp):
        assert_near(metrics(one), metrics(two), within=1e-5)
        assert_near(metrics(one, "validation_loss"), metrics(two, "validation_loss"), within=1e-5)
        for part in ("model/trained", "ema/trained", "optimiser"):
            assert_near(weights(one, part), weights(two, part), within=1e-5)


def test_accumulating_is_a_larger_batch(runs):
    together = runs.run("together", "steps=3", "data.batch=3", "data.shuffle=false")
    apart = runs.run("apart", "steps=3", "accumulate=3", "data.shuffle=false")

    first = dict(list(metrics(together).items())[:1])
    assert_near(first, dict(list(metrics(apart).items())[:1]), within=1e-6)


def test_one_sample_is_learnt(runs):
    dataset = runs.root / "one"
    write_dataset(dataset, [1], frames=5)
    trainer = runs.trainer(
        "learnt", f"data.dataset={dataset}", "steps=60", "optimiser.lr=4e-3", "data.caption_dropout=0",
        "data.pose_dropout=0", "validation.every=60", "validation.samples=1", "validation.videos=0", "ema_decay=null",
    )  # fmt: skip
    before = float(trainer.validation.loss(trainer.network))

    trainer.run()

    after = metrics(runs.root / "learnt", "validation_loss")[60]
    assert after < before / 2  # at fixed noise: losses of single steps depend on the noise level drawn


def test_validation_is_the_same_every_time_and_of_the_averaged_weights(runs):
    more = ["validation.every=1", "validation.samples=2", "validation.videos=1", "validation.sampler.steps=1"]
    trainer = runs.trainer("validated", "steps=2", "optimiser.lr=1e-2", "logging.trackers=[tensorboard]", *more)

    trainer.run()

    run = runs.root / "validated"
    with trainer.ema.swapped():
        average = float(trainer.validation.loss(trainer.network))
    assert metrics(run, "validation_loss")[2] == average
    assert abs(float(trainer.validation.loss(trainer.network)) - average) > 1e-3
    (grid,) = (run / "samples" / "step-00000002").iterdir()
    reader = open_reader(grid.read_bytes())
    assert (len(reader), reader.height, reader.width) == (5, 32, 5 * 32)
    logged = EventAccumulator(str(run / "tensorboard")).Reload()
    assert {"loss", "lr", "validation_loss"} <= set(logged.Tags()["scalars"])
    assert logged.Tags()["images"] == [f"samples/{grid.stem}"]


def test_damaged_samples_are_counted(runs):
    shard = next((runs.dataset / "shards").glob("train-*.tar"))
    data = bytearray(shard.read_bytes())
    at = data.index(b"moov")
    data[at : at + 4] = b"xxxx"
    shard.write_bytes(data)

    run = runs.run("skipping", "steps=3", "data.on_error=skip")

    assert metrics(run, "skipped")[3] >= 1
    with pytest.raises(DatasetError, match=r"train-000000\.tar"):
        runs.run("raising", "steps=3")


def test_a_run_whose_gradients_are_lost_ends(runs):
    with pytest.raises(ConfigError, match=r"optimiser\.lr: gradients are not finite, 10 steps in a row"):
        runs.run("lost", "steps=40", "optimiser.lr=1e30")


def test_the_next_stage_starts_from_what_was_trained(runs):
    first = runs.run("first", "steps=2")

    second = runs.trainer("second", "steps=2", f"start_from={first}")

    assert second.step == 0
    trained = dict(second.network.named_parameters())
    assert all(torch.equal(trained[name], value) for name, value in weights(first, "ema/trained").items())
    with pytest.raises(WeightsError, match="guider"):
        runs.trainer("third", f"start_from={first}", "model.guider=false")


def test_a_run_goes_on_with_its_own_data_and_model_only(runs, capsys):
    runs.run("changed", "steps=1")

    with pytest.raises(ConfigError, match="seed was 0, and is 1"):
        runs.trainer("changed", "steps=2", "data.seed=1")
    with pytest.raises(WeightsError, match="guider"):
        runs.trainer("changed", "steps=2", "model.guider=false")
    runs.trainer("changed", "steps=2", "optimiser.lr=1e-5")
    assert "changed since the checkpoint: optimiser.lr was 0.0005, is 1e-05" in capsys.readouterr().out


def test_what_cannot_be_is_told_before_anything_is_read(runs):
    with pytest.raises(ConfigError, match=r"parallel\.strategy: there is no GPU here"):
        runs.trainer("sharded", "parallel.strategy=fsdp")
    with pytest.raises(DatasetError, match="no sample in split 'dev'"):
        runs.trainer("validated", "validation.every=1", "validation.split=dev")
    done = subprocess.run(runs.command("none", "steps=0"), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: ")
