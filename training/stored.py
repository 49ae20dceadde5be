"""One sample as stored: its members, decoded as they are asked for, with errors that say where."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from media.reader import Backend, open_reader
from schemas.artifacts import artifact
from schemas.conditions import UInt8
from schemas.errors import ConfigError, DatasetError, MissingExtraError
from schemas.tables import META_MEMBER, SCHEMA_VERSION, Meta


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

        def decode(data: bytes) -> UInt8:
            reader = open_reader(data, backend=self.backend)
            if len(reader) != total:
                raise self.error(f"the video has {len(reader)} frames, the annotation {total}")
            return reader.get(indices)

        return self._decoded(artifact("video").member, decode)

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

    def _decoded(self, member: str, decode: Callable[[bytes], Any]) -> Any:
        if member not in self.members:
            raise self.error(f"member {member} is missing; there are {', '.join(sorted(self.members)) or 'none'}")
        try:
            return decode(self.members[member])
        except (ConfigError, DatasetError, MissingExtraError):
            raise
        except Exception as cause:  # a codec may raise anything at damaged bytes
            raise self.error(f"member {member} does not decode ({type(cause).__name__}: {cause})") from cause
