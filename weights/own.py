"""Files of the user's own: weights that the config names by path, whatever they are."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from schemas.errors import WeightsError


def is_path(name: str) -> bool:
    """Whether `name` is a path, and not a name in the registry."""
    return "/" in name or os.sep in name or Path(name).suffix != ""


def own_file(name: str) -> Path:
    """The file or folder at `name`. Raises `WeightsError` where there is none."""
    path = Path(name).expanduser()
    if not path.exists():
        raise WeightsError("the file is not there", where=str(path), remedy="Every node needs it under this path")
    return path


def own_sha256(name: str) -> str:
    """Hash of the file at `name`; of a folder, that of its files' names and hashes.

    Read once in each process, and again if size or modification time have changed since. Hidden files do not count:
    download tools keep their notes in them.

    Raises:
        WeightsError: there is no such file.

    """
    path = own_file(name)
    if path.is_file():
        return _hash_of(path, *_stamp(path))
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        inside = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in inside.parts):
            total.update(f"{inside.as_posix()} {_hash_of(file, *_stamp(file))}\n".encode())
    return total.hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@lru_cache(maxsize=4096)
def _hash_of(file: Path, size: int, modified_ns: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
