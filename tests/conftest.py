"""Order of the whole suite."""

from __future__ import annotations

import os

import pytest

# Else a build joins whatever cluster happens to run on this machine.
os.environ.setdefault("RAY_ADDRESS", "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the loader's tests first: its workers are forked, which may hang beside the threads of Ray and codecs."""
    items.sort(key=lambda item: "training" not in item.path.parts)
