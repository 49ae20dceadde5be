"""A labelling server, and backends that ask it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.annotators.vlm.asking import PERFECT, Backends
from tests.annotators.vlm.server import Labeller, labeller


@pytest.fixture
def server() -> Iterator[Labeller]:
    with labeller(PERFECT) as running:
        yield running


@pytest.fixture
def backend() -> Iterator[Backends]:
    before = set(threading.enumerate())
    made = Backends()
    yield made
    made.close()
    assert set(threading.enumerate()) <= before
