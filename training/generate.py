"""Try-on videos of a dataset's samples: `vvt generate`, `python -m training.generate`. See docs/generation.md."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from schemas.errors import ConfigError, DatasetError, VvtError
from training.checkpoints import trained_weights
from training.garments import Garments, from_table, unpaired
from training.generation_settings import GenerationSettings
from training.generator import Generator, trained_as
from training.settings_file import read_settings
from training.shards import read_index, read_members
from training.stored import StoredSample
from training.video_file import encode_video, write_whole

CheckpointOption = Annotated[
    Path | None,
    typer.Option(help="A run of `vvt train`, one of its checkpoints, or a folder with trained weights."),
]
BaseOption = Annotated[
    str | None,
    typer.Option(help="Folder of a Wan2.1-VACE. Without --checkpoint: the model as published; with it: in its place."),
]
OutOption = Annotated[Path, typer.Option(help="Folder for the videos, KEY.mp4.", show_default=False)]
GarmentOption = Annotated[Path | None, typer.Option(help="Image of a garment.")]
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
    split: Annotated[str, typer.Option(help="Split whose samples are generated.")] = "test",
    key: Annotated[list[str] | None, typer.Option(help="Only this sample; may be given again.")] = None,
    garment: GarmentOption = None,
    garments: Annotated[
        Path | None, typer.Option(help="CSV of key and garment: the sample, and that whose garment it gets.")
    ] = None,
    other_garments: Annotated[
        bool, typer.Option("--unpaired", help="Each gets the garment of another sample, for the same part.")
    ] = False,
    shard: Annotated[str, typer.Option(help="i/n: every n-th sample, from the i-th on, counted from 0.")] = "0/1",
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Generate a try-on video for each sample of a dataset.

    Run again after an interruption, it makes only what is missing.
    """
    chosen = generation_settings(checkpoint, settings, overrides or ())
    entries = {entry.key: entry for entry in read_index(dataset)}
    keys = _keys(dataset, split, key or [])
    wanted = [garment is not None, garments is not None, other_garments]
    if sum(wanted) > 1:
        raise ConfigError("garments are chosen in several ways", allowed="one of --garment, --garments, --unpaired")
    if garments is not None:
        worn = from_table(garments, keys, entries)
    elif other_garments:
        worn = unpaired(dataset, split, keys, entries, seed=chosen.seed)
    else:
        worn = Garments(entries, {}, garment)
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


def make_videos(
    keys: Sequence[str],
    garments: Garments,
    *,
    out: Path,
    checkpoint: Path | None,
    base: str | None,
    settings: GenerationSettings,
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    overwrite: bool = False,
) -> list[Path]:
    """Write `out`/KEY.mp4 of each of `keys`, and `out`/KEY.json, which tells how it was made.

    A video that was made in just this way is left as it is: the same comes out of it, to the bit on the same machine.

    Args:
        keys: samples, of `garments.entries`.
        garments: what they wear.
        out: folder.
        checkpoint: see `Generator.load`.
        base: the same.
        settings: how.
        device: of torch, or "auto".
        shard: (i, n): of the keys only every n-th from the i-th on.
        overwrite: replace videos that were made in another way.

    Returns:
        The files of this shard's keys, whether made now or before.

    Raises:
        ConfigError: `out` has a video that was made in another way; nothing was started.
        DatasetError: a sample is damaged; names shard and key.
        WeightsError: weights are absent, damaged, or do not fit each other.

    """
    weights = None if checkpoint is None else trained_weights(checkpoint)
    how = {
        "version": 1,
        "weights": weights and str(weights),
        "base": base,
        "settings": settings.model_dump(mode="json"),
    }
    records = {key: {**how, "garment": garments.name(key)} for key in keys[shard[0] :: shard[1]]}
    missing = [key for key, record in records.items() if not _is_made(out, key, record, overwrite=overwrite)]
    typer.echo(f"{len(missing)} of {len(records)} video(s) are to be made in {out}")
    generator = Generator.load(weights, base=base, settings=settings, device=_device(device)) if missing else None
    for number, key in enumerate(missing, start=1):
        assert generator is not None
        started = time.monotonic()
        entry = garments.entries[key]
        stored = StoredSample(read_members(entry), str(entry))
        video = generator.video(stored, key=key, garment=garments.load(key))
        (out / f"{key}.json").unlink(missing_ok=True)
        write_whole(out / f"{key}.mp4", encode_video(video, fps=stored.meta().span.fps))
        write_whole(out / f"{key}.json", (json.dumps(records[key], indent=2) + "\n").encode())
        typer.echo(f"{number}/{len(missing)} {key}: {len(video)} frames in {time.monotonic() - started:.1f} s")
    return [out / f"{key}.mp4" for key in records]


def generation_settings(checkpoint: Path | None, file: Path | None, overrides: Sequence[str]) -> GenerationSettings:
    """Settings of the YAML `file` and `overrides`; those that neither gives follow the run of `checkpoint`.

    Raises:
        ConfigError: a field is unknown or wrong, or the file cannot be read.

    """
    return read_settings(GenerationSettings, file, overrides, defaults=trained_as(checkpoint))


def _keys(dataset: str, split: str, asked: Sequence[str]) -> list[str]:
    keys = sorted(read_index(dataset, split=split).keys())
    if unknown := [key for key in asked if key not in keys]:
        near = get_close_matches(unknown[0], keys, n=1)
        raise DatasetError(
            f"there is no sample {unknown[0]!r} in split {split}" + (f"; did you mean {near[0]!r}?" if near else ""),
            where=dataset,
        )
    return [key for key in keys if key in asked] if asked else keys


def _shard(words: str) -> tuple[int, int]:
    first, _, count = words.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise ConfigError(f"--shard is {words!r}", allowed="i/n with i from 0 to n - 1, e.g. 0/8")
    return int(first), int(count)


def _device(name: str) -> str:
    import torch

    return name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def _is_made(out: Path, key: str, record: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the video of `key` is there, made as `record` says."""
    file = out / f"{key}.json"
    if not (file.exists() and file.with_suffix(".mp4").exists()):
        return False
    try:
        before = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"this is no JSON: {error}", where=str(file), remedy="Remove it") from error
    other = sorted(name for name in record if before.get(name) != record[name])
    if other and not overwrite:
        raise ConfigError(
            f"{key}.mp4 was made with other {', '.join(other)}",
            where=str(out),
            allowed="what it was made with, see the JSON file beside it",
            remedy="Choose another folder, or replace it by --overwrite",
        )
    return not other


def main() -> None:
    """Run the command line. An error that the user can cause is printed as a sentence."""
    try:
        typer.run(generate)
    except VvtError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
