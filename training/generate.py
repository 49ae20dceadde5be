"""Try-on videos of a dataset's samples: `vvt generate`, `python -m training.generate`. See docs/generation.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ConfigError, VvtError

CheckpointOption = Annotated[
    Path | None,
    typer.Option(help="A run of `vvt train`, one of its checkpoints, or a folder with trained weights."),
]
BaseOption = Annotated[
    str | None,
    typer.Option(help="Folder of a Wan2.1-VACE. Without --checkpoint: the model as published; with it: in its place."),
]
OutOption = Annotated[Path, typer.Option(help="Folder for the videos, KEY.mp4.", show_default=False)]
GarmentOption = Annotated[Path | None, typer.Option(help="Image of a garment, for all of them.")]
SplitOption = Annotated[str, typer.Option(help="Split whose samples are generated.")]
KeyOption = Annotated[list[str] | None, typer.Option(help="Only this sample; may be given again.")]
GarmentsOption = Annotated[
    Path | None, typer.Option(help="CSV of key and garment: the sample, and that whose garment it gets.")
]
UnpairedOption = Annotated[
    bool, typer.Option("--unpaired", help="Each gets the garment of another sample, for the same part.")
]
ShardOption = Annotated[str, typer.Option(help="i/n: every n-th sample, from the i-th on, counted from 0.")]
SettingsOption = Annotated[Path | None, typer.Option(help="YAML of settings; see docs/generation.md.")]
DeviceOption = Annotated[str, typer.Option(help="Of torch; auto: the first GPU if there is one.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace videos that were made in another way.")]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(help="Dotted settings, e.g. sampler.steps=30 long.mode=windows.")
]


def generate(
    dataset: Annotated[str, typer.Option(help="Folder or URL that `vvt build` wrote.", show_default=False)],
    out: OutOption,
    overrides: OverridesArgument = None,
    checkpoint: CheckpointOption = None,
    base: BaseOption = None,
    split: SplitOption = "test",
    key: KeyOption = None,
    garment: GarmentOption = None,
    garments: GarmentsOption = None,
    unpaired: UnpairedOption = False,
    shard: ShardOption = "0/1",
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Generate a try-on video for each sample of a dataset.

    Run again after an interruption, it makes only what is missing. Exit status: 0, or 2 if something is not right.
    """
    from training.garments import Garments, from_table, of_others, read_samples
    from training.generation import generation_settings, keys_of, make_videos

    chosen = generation_settings(checkpoint, settings, overrides or ())
    if (garment is not None) + (garments is not None) + unpaired > 1:
        raise ConfigError("garments are chosen in several ways", allowed="one of --garment, --garments, --unpaired")
    samples = read_samples(dataset)
    keys = keys_of(dataset, split, key or ())
    if garments is not None:
        worn = from_table(garments, keys, samples)
    elif unpaired:
        worn = of_others(dataset, split, keys, samples, seed=chosen.seed)
    else:
        worn = Garments(samples, {}, garment)
    make_videos(
        keys,
        worn,
        out=out,
        checkpoint=checkpoint,
        base=base,
        settings=chosen,
        device=device,
        shard=_shard(shard),
        overwrite=overwrite,
    )


def _shard(words: str) -> tuple[int, int]:
    first, _, count = words.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ConfigError(f"--shard is {words!r}", allowed="i/n with i from 0 to n - 1, e.g. 0/8")
    return int(first), int(count)


def main() -> None:
    """Run the command line. An error that the user can cause is printed as a sentence."""
    try:
        typer.run(generate)
    except VvtError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
