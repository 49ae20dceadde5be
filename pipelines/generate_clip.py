"""`vvt generate`: try-on videos of a dataset's samples, or of a clip of one's own, whose conditions are made first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ConfigError, DatasetError
from schemas.manifest import Part
from training.generate import (
    BaseOption,
    CheckpointOption,
    DeviceOption,
    GarmentOption,
    GarmentsOption,
    KeyOption,
    OutOption,
    OverridesArgument,
    OverwriteOption,
    SettingsOption,
    ShardOption,
    SplitOption,
    UnpairedOption,
)
from training.generate import generate as generate_samples

if TYPE_CHECKING:
    from schemas.config import BuildConfig

BUILD = "conditions"
"""In the folder of the videos: the dataset of the one clip."""
NEEDED: dict[str, tuple[float, None]] = {"person_presence": (0.01, None), "crop_short_side": (1, None)}
"""Bounds without which there is nothing to generate: somebody is seen, in a garment for the part."""


def generate(
    out: OutOption,
    overrides: OverridesArgument = None,
    dataset: Annotated[str | None, typer.Option(help="Folder or URL that `vvt build` wrote.")] = None,
    video: Annotated[str | None, typer.Option(help="A recording instead: path or URL.")] = None,
    checkpoint: CheckpointOption = None,
    base: BaseOption = None,
    split: SplitOption = "test",
    key: KeyOption = None,
    garment: GarmentOption = None,
    garments: GarmentsOption = None,
    unpaired: UnpairedOption = False,
    part: Annotated[Part, typer.Option(help="Of --video: where the garment is worn.")] = Part.UPPER,
    config: Annotated[
        str | None, typer.Option(help="Of --video: YAML config of `vvt build`, whose stages make the conditions.")
    ] = None,
    shard: ShardOption = "0/1",
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
) -> None:
    """Generate try-on videos with a trained model: of a dataset's samples, or of a recording and a garment.

    Run again after an interruption, it makes only what is missing. Exit status: 0, or 2 if something is not right.
    """
    if (dataset is None) == (video is None):
        raise ConfigError("what is generated is not clear", allowed="one of --dataset and --video")
    if video is not None:
        if garment is None or garments is not None or unpaired or key:
            raise ConfigError(
                "a recording gets one garment", allowed="--garment with --video, no --garments, --unpaired or --key"
            )
        dataset, split = build_conditions(video, part=part, config=config, work=out / BUILD), "train"
    elif config is not None:
        raise ConfigError("a dataset has its conditions", allowed="--config with --video")
    assert dataset is not None
    generate_samples(
        dataset,
        out,
        overrides,
        checkpoint=checkpoint,
        base=base,
        split=split,
        key=key,
        garment=garment,
        garments=garments,
        unpaired=unpaired,
        shard=shard,
        settings=settings,
        device=device,
        overwrite=overwrite,
    )


def build_conditions(video: str, *, part: Part, config: str | None, work: Path) -> str:
    """A dataset of one recording: a sample for each of its shots, all in split train. What is there is kept.

    Nothing is dropped for want of quality. The recording is built without a garment image, so that masks and labels
    are of the garment that is worn in it; the one to be tried on is the model's alone.

    Args:
        video: path or URL.
        part: where the garment is worn.
        config: of a build, whose stages run; None: those of the embedded tier.
        work: folder for the dataset.

    Returns:
        The dataset's folder.

    Raises:
        DatasetError: no shot of it can be used; says why.
        VvtError: as `pipelines.build.build`.

    """
    from pipelines.build import build
    from pipelines.stage_class import import_from_working_directory
    from schemas.manifest import Pair

    name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(video).stem).strip("-_")[:64] or "clip"
    local = "://" not in video
    pair = Pair(pair_id=name, video=str(Path(video).resolve()) if local else video, garment=None, part=part)
    work.mkdir(parents=True, exist_ok=True)
    manifest = work / "manifest.jsonl"
    manifest.write_text(pair.model_dump_json() + "\n", "utf-8")
    import_from_working_directory()
    summary = build(build_config(config, manifest=manifest, output=work / "dataset"))
    left_out = [row for row in _decisions(summary.output) if row["verdict"] != "kept"]
    for row in left_out:
        typer.echo(f"left out: {_why(row)}", err=True)
    if not summary.kept:
        raise DatasetError(
            "; ".join(map(_why, left_out)) or "it has no shot", where=video, remedy="Another recording, or --part"
        )
    if summary.kept.total() > 1:
        typer.echo(f"The recording has {summary.kept.total()} shots or pieces: each gets a video of its own")
    return summary.output


def build_config(config: str | None, *, manifest: Path, output: Path) -> BuildConfig:
    """The build of `config` with another manifest and output, in which no filter drops anything but what is `NEEDED`.

    Stages that do nothing but judge are left out.
    """
    from pipelines.chain import make_chain
    from pipelines.configure import load_config
    from schemas.config import BuildConfig, SplitConfig
    from schemas.stage import Filter

    places: dict[str, Any] = {"manifest": str(manifest), "output": str(output), "work": None}
    read = load_config(config, ["manifest=manifest", "output=output"]) if config else BuildConfig(**places)
    read = read.model_copy(update={**places, "split": SplitConfig(test_share=0)})
    stages = dict(read.stages)
    for stage in make_chain(read).stages:
        if not isinstance(stage, Filter):
            continue
        bounds = {metric: NEEDED.get(metric) for metric in type(stage).metrics}
        keep = bool(stage.gives) or any(bounds.values())
        stages[stage.name] = {**(read.stages.get(stage.name) or {}), "bounds": bounds} if keep else None
    return read.model_copy(update={"stages": stages})


def _decisions(dataset: str) -> list[dict[str, Any]]:
    import fsspec
    import pyarrow.parquet as pq

    from pipelines.tables import DECISIONS

    with fsspec.open(f"{dataset}/{DECISIONS}", "rb") as file:
        return pq.ParquetFile(file).read(use_threads=False).to_pylist()


def _why(row: dict[str, Any]) -> str:
    """Which shot it was, and why it cannot be used."""
    when = "" if row["start_seconds"] is None else f"{row['start_seconds']:.1f} to {row['end_seconds']:.1f} s: "
    return f"{when}{row['words'] or row['error'] or row['verdict']}"
