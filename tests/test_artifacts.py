"""Codecs of artifacts among threads."""

from __future__ import annotations

import ast
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from schemas.artifacts import decode_npz, encode_npz


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
