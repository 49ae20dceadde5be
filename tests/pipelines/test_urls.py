"""Files appear whole or not at all, on disk and in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import urls


@pytest.fixture(params=["disk", "store"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "folder/file") if request.param == "disk" else f"memory://{tmp_path.name}/folder/file"


def test_a_write_that_breaks_off_leaves_what_was_there(url: str) -> None:
    def broken() -> None:
        with urls.open_whole(url) as stream:
            stream.write(b"half")
            raise ConnectionError

    with pytest.raises(ConnectionError):
        broken()
    assert urls.read(url) is None
    urls.write_whole(url, b"whole")
    with pytest.raises(ConnectionError):
        broken()
    assert urls.read(url) == b"whole"
