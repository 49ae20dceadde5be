"""Codecs of artifacts: among threads, and of maps that are mostly empty."""

from __future__ import annotations

import ast
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from schemas.artifacts import decode_npz, decode_windows, encode_npz, encode_windows
from schemas.errors import ArtifactError


def test_no_two_threads_read_npz_headers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python 3.11 `ast` keeps one recursion counter for all threads, and fails now and then if two are in it."""
    inside: list[int] = []
    most: list[int] = []
    read = ast.literal_eval

    def slow(text: str) -> object:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.005)
        inside.pop()
        return read(text)

    monkeypatch.setattr(ast, "literal_eval", slow)
    data = encode_npz(a=np.zeros(3), b=np.ones((4, 5)))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(decode_npz, [data] * 8))
    assert len(most) == 16
    assert max(most) == 1


def test_windows_hold_what_is_not_empty() -> None:
    maps = np.zeros((4, 30, 50), np.uint8)
    maps[0, 3:9, 40:50] = np.arange(60).reshape(6, 10)  # its corner is 0
    maps[1, 29, 0] = 7
    maps[3] = 255
    data = encode_windows(maps)
    assert (decode_windows(data) == maps).all()
    assert decode_npz(data)["pixels"].size == 6 * 10 + 1 + 30 * 50
    assert decode_windows(encode_windows(maps[:0])).shape == (0, 30, 50)
    assert encode_windows(maps) == data


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 0, 51, 2), (0, 0, 2, 31)])
def test_windows_that_do_not_fit_are_refused(box: tuple[int, ...]) -> None:
    arrays = {"boxes": np.array([box], np.int32), "pixels": np.zeros(4, np.uint8), "size": np.array([30, 50], np.int32)}
    with pytest.raises(ArtifactError, match="do not fit"):
        decode_windows(encode_npz(**arrays))


def test_windows_of_other_numbers_are_refused() -> None:
    arrays = {
        "boxes": np.zeros((1, 4), np.int32),
        "pixels": np.zeros(0, np.float32),
        "size": np.array([3, 5], np.int32),
    }
    with pytest.raises(ArtifactError, match="pixels has dtype float32"):
        decode_windows(encode_npz(**arrays))


def test_windows_too_large_for_memory_are_refused() -> None:
    boxes, size = np.zeros((100, 4), np.int32), np.array([2**16, 2**16], np.int32)
    with pytest.raises(ArtifactError, match="do not fit"):
        decode_windows(encode_npz(boxes=boxes, pixels=np.zeros(0, np.uint8), size=size))
