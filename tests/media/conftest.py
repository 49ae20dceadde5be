"""Tests wait for no network."""

from __future__ import annotations

import pytest

from media import retrying


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many tries as ever, with hardly a pause between them."""
    for name in ("FIRST_WAIT", "JITTER"):
        monkeypatch.setattr(retrying, name, 0.001)
