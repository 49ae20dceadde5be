"""The training loop: steps, checkpoints, validation; the same on one process and on many."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from schemas.errors import ConfigError
from training import checkpoints
from training.checkpoints import Checkpoint, Checkpoints, gathered
from training.clips import loader
from training.conditioning import Conditioner
from training.ema import Ema
from training.losses import Losses
from training.model.backbone import base_folder
from training.model.itryon import ITryOn
from training.optimisation import learning_rate, make_optimiser
from training.parallel import make_accelerator, prepare, reshard
from training.random_state import random_state, restore_random_state
from training.runlog import RunLog
from training.sample import Batch
from training.step import training_step
from training.stopping import outlive_signals, stop_requests
from training.stored_latents import LatentConditioner
from training.train_settings import TrainSettings
from training.validation import Validation
from training.video_file import encode_video, write_whole

MOST_NOT_FINITE = 10
"""Steps in a row whose gradients are not finite, so that nothing is learnt in them, after which a run gives up."""
CONFIG, SAMPLES = "config.yaml", "samples"


class Trainer:
    """A run, from its newest checkpoint on.

    Args:
        settings: all of it.

    Raises:
        ConfigError: settings do not fit together, this machine, or the data that the run began with.
        DatasetError: the dataset is absent, empty or damaged.
        WeightsError: a checkpoint is absent, damaged or of another model.
        MissingExtraError: a package of the extra `train` is not installed.

    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings, self.folder = settings, Path(settings.out)
        self.accelerator = make_accelerator(settings)
        self.checkpoints = Checkpoints(self.folder, keep=settings.checkpoints.keep)
        resumed = self.checkpoints.newest()
        before = checkpoints.read_checkpoint(resumed) if resumed else None
        self.step = before.step if before else 0

        self.network, averages = _network(settings, resumed)
        optimiser = make_optimiser(self.network.trainable_parameters(), settings.optimiser)
        self.model, self.optimiser = prepare(self.accelerator, self.network, optimiser)
        self.trained = {name: each for name, each in self.network.named_parameters() if each.requires_grad}
        self.ema = Ema(self.trained, decay=settings.ema_decay) if settings.ema_decay is not None else None

        place = {"rank": self.accelerator.process_index, "world_size": self.accelerator.num_processes}
        self.conditioner = _conditioner(settings, self.accelerator.device)
        self.loader = loader(settings.data, **place)
        self.loader.worker_init_fn = outlive_signals
        self.validation = Validation(settings, self.conditioner, **place) if settings.validation.every else None

        self._skipped_before = before.skipped if before else 0
        if resumed and before:
            self._resume(resumed, before, averages)
        if self.accelerator.is_main_process:
            write_whole(self.folder / CONFIG, OmegaConf.to_yaml(settings.model_dump(mode="json")).encode())
        self.log = RunLog(self.folder, settings.logging, self.accelerator, step=self.step, steps=settings.steps)
        self._tell_the_start(before)

    # ---- training

    def run(self) -> int:
        """Train up to `settings.steps`. Returns the number of the signal that ended it before that, or 0.

        Raises:
            ConfigError: gradients were not finite for many steps in a row.

        """
        settings, batches = self.settings, self._batches()
        stop = not_finite = 0
        with stop_requests() as request:
            while self.step < settings.steps and not stop:
                values, stop = self._step(batches, request.signum)
                self.step += 1
                self.log.step(self.step, values)
                not_finite = 0 if math.isfinite(values["grad_norm"]) else not_finite + 1
                if not_finite == MOST_NOT_FINITE:
                    raise ConfigError(
                        f"gradients are not finite, {not_finite} steps in a row up to step {self.step}",
                        where="optimiser.lr",
                        remedy="Lower it, or look for broken samples; nothing was learnt in these steps",
                    )
                done = self.step == settings.steps
                if self.validation and not stop and (done or self.step % settings.validation.every == 0):
                    self._validate(self.validation)
                if done or stop or self.step % settings.checkpoints.every == 0:
                    self._save()
        if stop:
            self.log.say(f"stopped after step {self.step}; the same command goes on from there")
        return stop

    def _step(self, batches: Iterator[Batch], signum: int) -> tuple[dict[str, float], int]:
        """One step of the optimiser: what is to be told of it, and the number of a signal that any process got."""
        settings = self.settings
        rate = learning_rate(settings.optimiser, step=self.step, steps=settings.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        parts = []
        for _ in range(settings.accumulate):
            with self.accelerator.accumulate(self.model):
                losses = training_step(self.model, self.conditioner, next(batches), settings.loss)
                self.accelerator.backward(losses.total)
            parts.append(_scalars(losses))
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), settings.optimiser.max_grad_norm)
        if norm.isfinite():
            self.optimiser.step()
            if self.ema:
                self.ema.update()
        self.optimiser.zero_grad()

        mean = torch.stack(parts).mean(0)
        own = torch.cat([mean, mean.new_tensor([self.loader.clips.skipped, signum])])
        ranks = self.accelerator.gather(own[None])  # a row a process: the only wait for the device in a step
        loss, flow, action, garment = ranks[:, :4].mean(0).tolist()
        values = {"loss": loss, "flow": flow, "action": action, "lr": rate, "grad_norm": float(norm)}
        values |= {"garment": garment} if settings.loss.garment_attention else {}
        return values | {"skipped": self._skipped_before + int(ranks[:, 4].sum())}, int(ranks[:, 5].max())

    def _batches(self) -> Iterator[Batch]:
        """Epoch after epoch."""
        while True:
            yield from self.loader

    # ---- validation

    def _validate(self, validation: Validation) -> None:
        """With the averaged weights where there are such: they are what is used in the end."""
        self.model.eval()
        if not self.ema:
            self._measure(validation)
            return
        with self.ema.swapped():
            self._measure(validation)

    def _measure(self, validation: Validation) -> None:
        loss = self.accelerator.gather(validation.loss(self.network)[None]).mean()
        self.log.validation(self.step, float(loss))
        folder = self.folder / SAMPLES / f"step-{self.step:08d}"
        for grid in validation.videos(self.network):
            write_whole(folder / f"{grid.key}.mp4", encode_video(grid.frames, fps=grid.fps))
            self.log.picture(self.step, grid.key, grid.frames[len(grid.frames) // 2])
        reshard(self.network)

    # ---- checkpoints

    def _save(self) -> None:
        from accelerate.utils import gather_object

        main = self.accelerator.is_main_process
        moments = checkpoints.optimiser_tensors(self.optimiser.optimizer, list(self.trained))
        weights, moments = gathered(self.trained, keep=main), gathered(moments, keep=main)
        average = gathered(self.ema.average, keep=main) if self.ema else None
        checkpoint = Checkpoint(
            step=self.step,
            position=self.loader.state_dict(),
            ema_updates=self.ema.updates if self.ema else 0,
            skipped=self._skipped_before + sum(gather_object([self.loader.clips.skipped])),
            random=gather_object([random_state()]),
            settings=self.settings.model_dump(mode="json"),
        )
        if main:
            with self.checkpoints.writing(checkpoint) as folder:
                self.network.save(folder / checkpoints.MODEL, state=weights)
                if average is not None:
                    self.network.save(folder / checkpoints.EMA, state=average)
                checkpoints.save_optimiser(moments, folder)
        self.accelerator.wait_for_everyone()

    def _resume(self, folder: Path, before: Checkpoint, averages: dict[str, Tensor]) -> None:
        """All but the weights, which the network has got before it was shared out."""
        checkpoints.load_optimiser(self.optimiser.optimizer, list(self.trained), folder)
        self.loader.load_state_dict(before.position)
        if self.ema and averages:
            self.ema.restore(averages, updates=before.ema_updates)
        if self.accelerator.process_index < len(before.random):
            restore_random_state(before.random[self.accelerator.process_index])

    def _tell_the_start(self, before: Checkpoint | None) -> None:
        everything = sum(each.numel() for each in self.network.parameters())
        trained = sum(each.numel() for each in self.trained.values())
        processes = self.accelerator.num_processes
        self.log.say(
            f"{trained:,} of {everything:,} parameters train, on {len(self.loader.clips):,} clips, by {processes} "
            f"process{'es' if processes > 1 else ''} on {self.accelerator.device.type}"
        )
        if before is None:
            return
        self.log.say(f"goes on from step {before.step}")
        now = self.settings.model_dump(mode="json")
        for name, old, new in _changes(before.settings, now):
            self.log.say(f"changed since the checkpoint: {name} was {old!r}, is {new!r}")


def _network(settings: TrainSettings, resumed: Path | None) -> tuple[ITryOn, dict[str, Tensor]]:
    """The model with the weights to go on from, and of a resumed run its averaged weights."""
    torch.manual_seed(settings.seed)
    network = ITryOn.load(settings.model, dtype=_frozen_dtype(settings))
    for parameter in network.trainable_parameters():
        parameter.data = parameter.data.float()
    if settings.compile:
        network.compile_blocks()
    averages: dict[str, Tensor] = {}
    if resumed is None:
        if settings.start_from:
            network.load_trained(checkpoints.trained_weights(Path(settings.start_from)))
        return network, averages
    if (folder := resumed / checkpoints.EMA).is_dir():
        network.load_trained(folder)
        averages = {name: each.detach().clone() for name, each in network.named_parameters() if each.requires_grad}
    network.load_trained(resumed / checkpoints.MODEL)
    return network, averages


def _conditioner(settings: TrainSettings, device: torch.device) -> Conditioner | LatentConditioner:
    if settings.data.latents:
        return LatentConditioner(device, dtype=_frozen_dtype(settings), pose=settings.pose)
    return Conditioner.load(
        base_folder(settings.model.base),
        device=device,
        dtype=_frozen_dtype(settings),
        pose=settings.pose,
        hands=settings.model.guider,
    )


def _frozen_dtype(settings: TrainSettings) -> torch.dtype:
    return torch.bfloat16 if settings.precision == "bf16" else torch.float32


def _scalars(losses: Losses) -> Tensor:
    """(4,): total, flow, action, garment, which is 0 where there is none."""
    garment = torch.zeros_like(losses.total) if losses.garment is None else losses.garment
    return torch.stack([losses.total, losses.flow, losses.action, garment]).detach()


def _changes(
    before: dict[str, object], now: dict[str, object], prefix: str = ""
) -> Iterator[tuple[str, object, object]]:
    """Dotted name, old and new value of all that is not as before."""
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{prefix}{name}.")
        elif old != new:
            yield prefix + name, old, new
