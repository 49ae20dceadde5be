"""One sample as stored: its members, decoded as they are asked for, with errors that say where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.reader import Backend, FrameReader, PyAvReader, open_reader
from schemas.artifacts import artifact, decode_npz
from schemas.conditions import UInt8
from schemas.errors import ConfigError, DatasetError, MissingExtraError
from schemas.tables import META_MEMBER, SCHEMA_VERSION, Meta

_AT_ONCE = 16
"""Frames asked for at once of readers that do not hand them on one by one."""


@dataclass(frozen=True, eq=False)
class StoredSample:
    """The members of one sample.

    Attributes:
        members: name after the key → bytes, e.g. "pose.npz".
        where: shard and key, for errors.
        backend: decoder of the video, see `media.open_reader`.

    """

    members: Mapping[str, bytes]
    where: str
    backend: Backend = "pyav"

    def artifact(self, name: str) -> Any:
        """Value of artifact `name`, see `schemas.artifacts`. Raises `DatasetError` if missing or damaged."""
        kind = artifact(name)
        return self._decoded(kind.member, kind.decode)

    def has(self, name: str) -> bool:
        """Whether the sample holds artifact `name`; not every sample holds every one."""
        return artifact(name).member in self.members

    def meta(self) -> Meta:
        """`KEY.meta.json`. Raises `DatasetError` if missing, damaged, or of another schema version."""
        meta: Meta = self._decoded(META_MEMBER, Meta.model_validate_json)
        if meta.schema_version != SCHEMA_VERSION:
            raise DatasetError(f"schema version {meta.schema_version}", where=self.where, allowed=str(SCHEMA_VERSION))
        return meta

    def images(self, indices: Sequence[int], *, total: int) -> UInt8:
        """These frames of the video, which has to have `total`, as (N, H, W, 3) uint8 RGB.

        Raises:
            DatasetError: the video is missing, damaged, or of another length.

        """
        return self._decoded(artifact("video").member, lambda data: self._opened(data, total).get(indices))

    def reader(self, *, total: int) -> FrameReader:
        """The video, which has to have `total` frames. Raises `DatasetError` if missing, damaged, or of others."""
        return self._decoded(artifact("video").member, lambda data: self._opened(data, total))

    def each_image(self, reader: FrameReader, indices: Sequence[int], use: Callable[[int, UInt8], None]) -> None:
        """Call `use` with each place in `indices`, which rise, and the (H, W, 3) uint8 RGB of it, as frames decode.

        Raises:
            DatasetError: the video is damaged.

        """

        def decode(_: bytes) -> None:
            if isinstance(reader, PyAvReader):
                places = _places(indices)
                for index, image in reader.images(list(places)):
                    for place in places[index]:
                        use(place, image)
            else:
                for first in range(0, len(indices), _AT_ONCE):
                    for place, image in enumerate(reader.get(indices[first : first + _AT_ONCE]), start=first):
                        use(place, image)

        self._decoded(artifact("video").member, decode)

    def mask_bits(self, indices: Sequence[int], shape: tuple[int, ...]) -> UInt8:
        """These frames of the agnostic mask, (N, H, ceil(W/8)) uint8, packed along x, highest bit first.

        Raises:
            DatasetError: the mask is missing, damaged, or all of it is not of `shape`.

        """

        def decode(data: bytes) -> UInt8:
            arrays = decode_npz(data)
            bits, width = arrays["bits"], int(arrays["width"])
            found = (*bits.shape[:-1], width)
            if found != shape or bits.shape[-1] != -(-width // 8):
                raise self.error(f"agnostic_mask has shape {found}, the video {shape}")
            return bits[np.asarray(indices)]

        return self._decoded(artifact("agnostic_mask").member, decode)

    def maps(self, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        """Per-pixel artifact `name`, bool or uint8. Raises `DatasetError` if missing, damaged, or not of `shape`."""
        maps = self.artifact(name)
        if maps.shape != shape:
            raise self.error(f"{name} has shape {maps.shape}, the video {shape}")
        if maps.dtype not in (np.bool_, np.uint8):
            raise self.error(f"{name} has dtype {maps.dtype}, not bool or uint8")
        return maps

    def per_frame(self, name: str, total: int) -> Any:
        """Artifact `name` with a row a frame. Raises `DatasetError` if missing, damaged, or not of `total` rows."""
        value = self.artifact(name)
        frames = len(value.scores)
        if frames != total:
            raise self.error(f"{name} has {frames} frames, the annotation {total}")
        return value

    def error(self, what: str) -> DatasetError:
        """A `DatasetError` that names this sample."""
        return DatasetError(what, where=self.where, remedy="Run `vvt validate` on the dataset")

    def _opened(self, data: bytes, total: int) -> FrameReader:
        reader = open_reader(data, backend=self.backend)
        if len(reader) != total:
            raise self.error(f"the video has {len(reader)} frames, the annotation {total}")
        return reader

    def _decoded(self, member: str, decode: Callable[[bytes], Any]) -> Any:
        if member not in self.members:
            raise self.error(f"member {member} is missing; there are {', '.join(sorted(self.members)) or 'none'}")
        try:
            return decode(self.members[member])
        except (ConfigError, DatasetError, MissingExtraError):
            raise
        except Exception as cause:  # a codec may raise anything at damaged bytes
            raise self.error(f"member {member} does not decode ({type(cause).__name__}: {cause})") from cause


def _places(indices: Sequence[int]) -> dict[int, list[int]]:
    """Where each frame is in `indices`, which may name it more than once."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        places.setdefault(int(index), []).append(place)
    return places
