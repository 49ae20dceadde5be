"""What is told of a run: metrics.jsonl, the console, TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from schemas.conditions import UInt8
    from training.train_settings import LoggingSettings

METRICS = "metrics.jsonl"


class RunLog:
    """Only the main process tells anything.

    Args:
        run: folder of the run.
        settings: how often, and where to.
        accelerator: made with `log_with` of the same trackers; it talks to them.
        step: that the run goes on from: later lines, of a run that died, are taken out of the metrics.
        steps: of the whole run.

    Raises:
        ConfigError: wandb is asked for and not installed.

    """

    def __init__(
        self, run: Path, settings: LoggingSettings, accelerator: Accelerator, *, step: int, steps: int
    ) -> None:
        if "wandb" in settings.trackers and find_spec("wandb") is None:
            raise ConfigError("wandb is not installed", where="logging.trackers", remedy="`pip install wandb`")
        self._accelerator, self._every, self._steps = accelerator, settings.every, steps
        self._file = run / METRICS
        self._since, self._since_step = time.monotonic(), step
        if accelerator.is_main_process:
            self._cut(step)
        accelerator.init_trackers(
            "tensorboard",
            init_kwargs={
                "tensorboard": {"purge_step": step + 1},
                "wandb": {"name": run.name, "dir": str(run)},
            },
        )

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note the values of one step."""
        if not self._accelerator.is_main_process:
            return
        self._append(step, values)
        if step % self._every and step != self._steps:
            return
        now = time.monotonic()
        speed = (step - self._since_step) / max(now - self._since, 1e-9)
        self._since, self._since_step = now, step
        self._accelerator.log({**values, "steps_per_second": speed}, step=step)
        words = [f"loss {values['loss']:.4f}", f"lr {values['lr']:.1e}", f"{speed:.2f} steps/s"]
        words += [f"{int(values['skipped'])} samples skipped"] if values["skipped"] else []
        self.say(f"step {step}/{self._steps}  " + "  ".join(words))

    def validation(self, step: int, loss: float) -> None:
        """Note a validation's loss."""
        if self._accelerator.is_main_process:
            self._append(step, {"validation_loss": loss})
            self._accelerator.log({"validation_loss": loss}, step=step)
            self.say(f"step {step}/{self._steps}  validation loss {loss:.4f}")

    def picture(self, step: int, name: str, picture: UInt8) -> None:
        """Show a picture (H, W, 3)."""
        for tracker in self._accelerator.trackers:
            options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({f"samples/{name}": picture[None]}, step=step, **options)

    def say(self, words: str) -> None:
        """A line on the console."""
        if self._accelerator.is_main_process:
            print(words, flush=True)

    def _append(self, step: int, values: Mapping[str, float]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")

    def _cut(self, step: int) -> None:
        if not self._file.exists():
            return
        kept = [line for line in self._file.read_text("utf-8").splitlines(keepends=True) if _step(line) <= step]
        unfinished = self._file.with_suffix(".unfinished")
        unfinished.write_text("".join(kept), "utf-8")
        os.replace(unfinished, self._file)


def _step(line: str) -> float:
    """Step of a line; a line that a dying run has left half written comes last."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
