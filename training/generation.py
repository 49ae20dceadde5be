"""Videos of many samples: which there are, which are to be made, and where they lie."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import typer

from schemas.errors import ConfigError, DatasetError
from training.checkpoints import trained_weights
from training.garments import Garments
from training.generation_settings import GenerationSettings
from training.generator import Generator, trained_as
from training.settings_file import read_settings
from training.shards import read_index, read_members
from training.stored import StoredSample
from training.video_file import encode_video, write_whole


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
        keys: samples, of `garments.samples`.
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
    how = {"weights": weights and str(weights), "base": base, "settings": settings.model_dump(mode="json")}
    records = {
        key: {"version": 1, "clip_digest": garments.samples[key].digest, **garments.identity(key), **how}
        for key in keys[shard[0] :: shard[1]]
    }
    missing = [key for key, record in records.items() if not _is_made(out, key, record, overwrite=overwrite)]
    typer.echo(f"{len(missing)} of {len(records)} video(s) are to be made in {out}")
    generator = Generator.load(weights, base=base, settings=settings, device=_device(device)) if missing else None
    for number, key in enumerate(missing, start=1):
        assert generator is not None
        started = time.monotonic()
        entry = garments.samples[key].entry
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


def keys_of(dataset: str, split: str, asked: Sequence[str] = ()) -> list[str]:
    """Keys of a split in order, or those of them that are `asked` for. Raises `DatasetError` if one is not there."""
    keys = sorted(read_index(dataset, split=split).keys())
    if unknown := [key for key in asked if key not in keys]:
        near = get_close_matches(unknown[0], keys, n=1)
        raise DatasetError(
            f"there is no sample {unknown[0]!r} in split {split}" + (f"; did you mean {near[0]!r}?" if near else ""),
            where=dataset,
        )
    return [key for key in keys if key in asked] if asked else keys


def _device(name: str) -> str:
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
            f"{key}.mp4 was made with another {', '.join(other)}",
            where=str(out),
            allowed="what it was made with, see the JSON file beside it",
            remedy="Choose another folder, or replace it by --overwrite",
        )
    return not other
