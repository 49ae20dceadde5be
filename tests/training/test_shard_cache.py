"""The local cache of samples: bounded, shared by processes, and never in the way."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.errors import ConfigError
from tests.test_rooms import ROOT
from training.shard_cache import ShardCache


class Store:
    """Stands for the network: says what was fetched."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def read(self, cache: ShardCache, name: str, size: int = 1000) -> bytes:
        def fetch() -> bytes:
            self.fetched.append(name)
            return name.encode().ljust(size, b".")

        return cache.read(name, fetch)


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_what_was_read_is_not_fetched_again_by_anybody(tmp_path):
    store = Store()
    first = store.read(ShardCache(tmp_path, max_bytes=10_000), "a")

    assert store.read(ShardCache(tmp_path, max_bytes=10_000), "a") == first
    assert store.fetched == ["a"]


def test_it_stays_within_its_bound_and_keeps_what_is_in_use(tmp_path):
    store, cache = Store(), ShardCache(tmp_path, max_bytes=10_000)
    for number in range(50):
        store.read(cache, "often")
        store.read(cache, str(number))
        assert used(tmp_path) <= 11_000

    assert store.fetched.count("often") == 1
    assert store.read(cache, "49")
    assert store.fetched.count("49") == 1


def test_what_others_left_counts(tmp_path):
    store = Store()
    for number in range(8):
        store.read(ShardCache(tmp_path, max_bytes=10_000), str(number))
    small = ShardCache(tmp_path, max_bytes=3_000)
    store.read(small, "new")

    assert used(tmp_path) <= 3_300


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"x" * 50_000)
    store, cache = Store(), ShardCache(tmp_path, max_bytes=3_000)
    for number in range(9):
        store.read(cache, str(number))

    assert (tmp_path / "notes.txt").stat().st_size == 50_000


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 1032])
def test_a_damaged_file_is_fetched_again(tmp_path, damage):
    store, cache = Store(), ShardCache(tmp_path, max_bytes=10_000)
    whole = store.read(cache, "a")
    (stored,) = tmp_path.iterdir()
    stored.write_bytes(damage)

    assert store.read(cache, "a") == whole
    assert store.read(cache, "a") == whole
    assert store.fetched == ["a", "a"]


def test_what_is_larger_than_the_cache_passes_through(tmp_path):
    store, cache = Store(), ShardCache(tmp_path, max_bytes=500)

    assert len(store.read(cache, "a")) == 1000
    assert not list(tmp_path.iterdir())


def test_a_folder_that_takes_nothing_costs_speed_only(tmp_path, caplog):
    store, cache = Store(), ShardCache(tmp_path / "cache", max_bytes=10_000)
    (tmp_path / "cache").rmdir()
    with caplog.at_level(logging.WARNING):
        assert store.read(cache, "a") == store.read(cache, "a")

    assert store.fetched == ["a", "a"]
    assert len(caplog.records) == 1


def test_a_failed_fetch_leaves_nothing(tmp_path):
    def fail() -> bytes:
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        ShardCache(tmp_path, max_bytes=10_000).read("a", fail)
    assert not list(tmp_path.iterdir())


def test_processes_share_it(tmp_path):
    code = f"""
import random
from training.shard_cache import ShardCache
cache = ShardCache({str(tmp_path)!r}, max_bytes=40_000)
for _ in range(400):
    name = str(random.randrange(80))
    assert cache.read(name, lambda: name.encode() * 500) == name.encode() * 500
"""
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert used(tmp_path) <= 40_000 * 1.3


def test_settings_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="0 bytes"):
        ShardCache(tmp_path, max_bytes=0)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        ShardCache(tmp_path / "file", max_bytes=1)
