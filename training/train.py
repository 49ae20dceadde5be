"""Train iTryOn on a built dataset: `python -m training.train CONFIG [dotted.name=value …]`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from schemas.errors import VvtError


def train(
    config: Annotated[str, typer.Argument(help="YAML config; see docs/training.md.", show_default=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Dotted overrides, e.g. out=runs/one optimiser.lr=1e-4.")
    ] = None,
) -> None:
    """Train the bundled model. Running it again with the same `out` goes on from the newest checkpoint.

    On several GPUs: `accelerate launch --num_processes 8 -m training.train CONFIG`.

    Exit status: 0 at the end, 2 if config, dataset or weights are not right, 143 after SIGTERM and 130 after SIGINT,
    which save a checkpoint first.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # a bar for each part of the model, from each process
    from training.settings_file import read_settings
    from training.train_settings import TrainSettings
    from training.trainer import Trainer

    trainer = Trainer(read_settings(TrainSettings, config, overrides or ()))
    signum = trainer.run()
    trainer.accelerator.end_training()
    if signum:
        raise typer.Exit(128 + signum)


def main() -> None:
    """Run the command line. An error that the user can cause is printed as a sentence."""
    try:
        typer.run(train)
    except VvtError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
