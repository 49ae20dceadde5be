"""Which garment each sample is generated in: its own, another sample's, or that of an image."""

from __future__ import annotations

import csv
import hashlib
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from schemas.artifacts import artifact
from schemas.errors import ConfigError, DatasetError
from training.decoding import decode_garment
from training.shards import Entry, read_index, read_members
from training.stored import StoredSample
from training.survey import GarmentSwaps

COLUMNS = ("key", "garment")
"""Of a table of garments: a sample, and the sample whose garment it gets."""
_DIGEST = 16
"""Hex digits."""


@dataclass(frozen=True)
class Indexed:
    """A sample of a dataset: where it lies, and a digest of all its members."""

    entry: Entry
    digest: str


def read_samples(dataset: str) -> dict[str, Indexed]:
    """Every sample of `dataset`, of all splits, by key. Raises `DatasetError` as `training.shards.read_index`."""
    index = read_index(dataset, columns=("members",))
    contents = ("".join(each["sha256"] for each in members) for members in index.table["members"].to_pylist())
    return {
        entry.key: Indexed(entry, hashlib.sha256(content.encode()).hexdigest()[:_DIGEST])
        for entry, content in zip(index, contents, strict=True)
    }


@dataclass(frozen=True)
class Garments:
    """Garments of samples.

    Attributes:
        samples: every sample of the dataset by key.
        of: key → the key of the sample whose garment it gets; others get their own.
        image: path of an image that all of them get instead.

    """

    samples: Mapping[str, Indexed]
    of: Mapping[str, str]
    image: Path | None = None

    def identity(self, key: str) -> dict[str, str]:
        """Which garment sample `key` gets: the sample that has it, or the image's path, and a digest of either."""
        if self.image is None:
            source = self.of.get(key, key)
            return {"garment": source, "garment_digest": self.samples[source].digest}
        return {"garment": str(self.image), "garment_digest": hashlib.sha256(_bytes(self.image)).hexdigest()[:_DIGEST]}

    def load(self, key: str) -> Tensor:
        """The garment of sample `key`: (3, h, w) uint8 RGB.

        Raises:
            DatasetError: the sample that has it is damaged.
            ConfigError: the image cannot be read.

        """
        if self.image is not None:
            return read_image(self.image)
        entry = self.samples[self.of.get(key, key)].entry
        return decode_garment(StoredSample(read_members(entry), str(entry)), None)[0]


def from_table(file: Path, keys: Sequence[str], samples: Mapping[str, Indexed]) -> Garments:
    """Garments of `keys` by a CSV with the columns key and garment, both keys of samples; it may have more rows.

    Raises:
        ConfigError: it cannot be read, lacks a column or one of `keys`, or names a sample that is not there.

    """
    try:
        reader = csv.DictReader(io.StringIO(file.read_text("utf-8-sig")))
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the table of garments cannot be read: {error}", where=str(file)) from error
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise ConfigError(f"there is no column {', '.join(missing)}", where=str(file), allowed=", ".join(COLUMNS))
    of = {row["key"]: row["garment"] for row in rows}
    if absent := [key for key in keys if key not in of]:
        raise ConfigError(f"there is no row of {absent[0]}, nor of {len(absent) - 1} more", where=str(file))
    if unknown := sorted({of[key] for key in keys} - samples.keys()):
        raise ConfigError(f"garment {unknown[0]!r} is no sample of the dataset", where=str(file), allowed="its keys")
    return Garments(samples, {key: of[key] for key in keys})


def of_others(dataset: str, split: str, keys: Sequence[str], samples: Mapping[str, Indexed], *, seed: int) -> Garments:
    """For each of `keys` the garment of another sample of the split, worn on the same part; by the seed and the key.

    Raises:
        DatasetError: the split has no other garment for the part of one of them.

    """
    index = read_index(dataset, split=split, columns=("part", "members"))
    image = artifact("garment").member
    members = index.table["members"].to_pylist()
    hashes = [next((each["sha256"] for each in row if each["name"] == image), "") for row in members]
    swaps, known = GarmentSwaps(index.table["part"].to_pylist(), hashes), index.keys()
    rows = {key: row for row, key in enumerate(known)}
    of = {}
    for key in keys:
        other = swaps.other(rows[key], np.random.default_rng((seed, zlib.crc32(key.encode()))).random())
        if other is None:
            raise DatasetError(
                f"there is no other garment for the part of sample {key}",
                where=f"{dataset}, split {split}",
                remedy="Name garments by --garments, or samples by --key",
            )
        of[key] = known[other]
    return Garments(samples, of)


def read_image(file: Path) -> Tensor:
    """(3, h, w) uint8 RGB of an image; what is transparent in it becomes white. Raises `ConfigError`."""
    try:
        with Image.open(io.BytesIO(_bytes(file))) as image:
            shown = image.convert("RGBA")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigError(f"the garment image cannot be read: {error}", where=str(file)) from error
    on_white = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return torch.from_numpy(np.asarray(on_white).copy()).permute(2, 0, 1)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"the garment image cannot be read: {error}", where=str(file)) from error
