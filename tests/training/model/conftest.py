from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from training.tiny import write_tiny_checkpoint


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    write_tiny_checkpoint(folder)
    return folder


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """For networks this small, threads cost more than they do."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
