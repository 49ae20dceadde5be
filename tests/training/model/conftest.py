from __future__ import annotations

from pathlib import Path

import pytest

from training.tiny import write_tiny_checkpoint


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_tiny_checkpoint(folder)
    return folder
