"""Answers that are kept: found by content alone, whole or not at all, in folders and stores, by many at once."""

from __future__ import annotations

import errno
import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import fsspec
import numpy as np
import pytest

from annotators.vlm import cache as caches
from annotators.vlm.backend import Picture, Reply, Request, Token
from annotators.vlm.cache import Cache, content_hash
from schemas.errors import ConfigError, OutageError

IDENTITY = {"backend": "openai", "model": "m"}
REPLY = Reply(
    key="clip#0",
    text='{"id":"ü","interactive":{"1":true}}',
    tokens=(
        Token(text="true", logprob=-0.25, others={"true": -0.25, "fälse": -1.5, "\x00": float("-inf")}),
        Token(text=" ", logprob=0.0),
    ),
    prompt_tokens=7,
    completion_tokens=3,
    ended="length",
)
HASH = "ab" * 20


def request(value: int = 0, **changes: object) -> Request:
    picture = Picture(np.full((4, 4, 3), value, np.uint8), 0.25)
    made = Request(key="clip#0", system="You…", text="Which?", pictures=(picture,), schema={"a": 1}, max_tokens=9)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture(params=["folder", "store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "answers") if request.param == "folder" else f"memory://{tmp_path}/answers"


def kept(url: str, *hashes: str) -> dict[str, Reply]:
    """What a new cache finds."""
    return Cache(url).get(hashes or [HASH])


def put(url: str, reply: Reply = REPLY, content: str = HASH) -> None:
    cache = Cache(url)
    cache.put(content, reply)
    cache.flush()


# ---- what an answer depends on


def test_the_hash_is_of_the_content() -> None:
    same = content_hash(request(), IDENTITY)
    assert content_hash(request(key="another#7"), IDENTITY) == same
    assert content_hash(request(schema={"a": 1}), {"model": "m", "backend": "openai"}) == same
    later = replace(request().pictures[0], seconds=0.5)
    others = [
        content_hash(request(value=1), IDENTITY),
        content_hash(request(text="Who?"), IDENTITY),
        content_hash(request(system=""), IDENTITY),
        content_hash(request(schema={}), IDENTITY),
        content_hash(request(max_tokens=10), IDENTITY),
        content_hash(request(pictures=()), IDENTITY),
        content_hash(request(pictures=(later,)), IDENTITY),
        content_hash(request(pictures=request().pictures * 2), IDENTITY),
        content_hash(request(), {**IDENTITY, "model": "n"}),
    ]
    assert len({same, *others}) == 1 + len(others)


# ---- kept and found


def test_an_answer_comes_back_as_it_was(url: str) -> None:
    assert kept(url) == {}
    put(url)
    assert kept(url) == {HASH: REPLY}
    assert kept(url, "cd" * 20, HASH, "cd" * 20) == {HASH: REPLY}
    assert kept(url, *()) == {HASH: REPLY}


def test_without_a_folder_answers_are_kept_in_memory() -> None:
    cache = Cache()
    cache.put(HASH, REPLY)
    cache.flush()
    assert cache.get([HASH]) == {HASH: REPLY}
    assert Cache().get([HASH]) == {}


def test_memory_keeps_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "REMEMBERED", 2)
    cache = Cache()
    for content in ("a", "b"):
        cache.put(content, REPLY)
    cache.get(["a"])
    cache.put("c", REPLY)
    assert [*cache.get(["a", "b", "c"])] == ["a", "c"]


def test_answers_are_there_as_soon_as_they_are_flushed_for_other_processes(tmp_path: Path) -> None:
    with get_context("spawn").Pool(2) as pool:
        pool.starmap(put, [(str(tmp_path), REPLY, f"{number:040x}") for number in range(20)])
    assert len(kept(str(tmp_path), *(f"{number:040x}" for number in range(20)))) == 20


def test_many_write_and_read_the_same_answer_at_once(url: str) -> None:
    seen: list[dict[str, Reply]] = []

    def work() -> None:
        for _ in range(30):
            put(url)
            seen.append(kept(url))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{HASH: REPLY}] * 120


# ---- damage


def stored(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    fs, folder = fsspec.core.url_to_fs(url)
    [file] = fs.find(folder)
    return fs, file


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-5],
        lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:],
        lambda data: b"no deflated data",
        lambda data: zlib.compress(b"[1, 2]"),
        lambda data: zlib.compress(b'{"of": "' + HASH.encode() + b'", "reply": {"key": "k", "text": 3}}'),
        lambda data: zlib.compress(zlib.decompress(data).replace(b'"logprob"', b'"probability"')),
        lambda data: zlib.compress(zlib.decompress(data).replace(b"abab", b"cdcd")),
    ],
)
def test_a_damaged_answer_is_none_and_is_replaced(damage: object, url: str) -> None:
    put(url)
    fs, file = stored(url)
    fs.pipe_file(file, damage(fs.cat_file(file)))  # type: ignore[operator]
    assert kept(url) == {}
    put(url)
    assert kept(url) == {HASH: REPLY}


def test_nothing_half_written_is_left_or_taken_for_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache = Cache(str(tmp_path))
    cache.put(HASH, REPLY)
    with pytest.raises(OutageError, match="No space left"):
        cache.flush()
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    assert cache.get([HASH]) == {HASH: REPLY}  # and the answer that was paid for is not lost


# ---- where it cannot be


def test_a_cache_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file system"):
        Cache("unheard-of://bucket/answers")
    (tmp_path / "file").write_text("in the way")
    cache = Cache(str(tmp_path / "file"))
    cache.put(HASH, REPLY)
    with pytest.raises(ConfigError, match="cannot be there"):
        cache.flush()


def test_a_store_that_fails_is_an_outage_and_denied_access_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [OSError("the store hiccups"), PermissionError("not yours")]

    def fail(*_: object, **__: object) -> None:
        raise errors[0]

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "cat_ranges", fail)
    cache = Cache(f"memory://{tmp_path}")
    with pytest.raises(OutageError, match="the store hiccups"):
        cache.get([HASH])
    errors.pop(0)
    with pytest.raises(ConfigError, match="denies access"):
        cache.get([HASH])


# ---- fast enough


def test_a_hit_costs_next_to_nothing_beside_a_question(tmp_path: Path) -> None:
    """Against a floor of the same run: the same files, read and inflated only."""
    reply = replace(REPLY, tokens=REPLY.tokens * 80)
    names = [f"{number:040x}"[::-1] for number in range(300)]
    cache = Cache(str(tmp_path))
    for name in names:
        cache.put(name, reply)
    cache.flush()
    files = list(tmp_path.rglob("*.z"))

    def least(work: Callable[[], object]) -> float:
        spent = []
        for _ in range(5):
            started = time.perf_counter()
            work()
            spent.append(time.perf_counter() - started)
        return min(spent)

    floor = least(lambda: [zlib.decompress(file.read_bytes()) for file in files])
    assert len(Cache(str(tmp_path)).get(names)) == 300
    assert least(lambda: Cache(str(tmp_path)).get(names)) < 100 * floor
