"""Written videos: what is read back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from media import open_reader
from media.normalised import check_normalised
from training.video_file import encode_video, write_whole


def colours(frames: int) -> np.ndarray:
    """Quarters in red, green, blue and grey, the grey another in each frame."""
    pictures = np.zeros((frames, 32, 48, 3), np.uint8)
    pictures[:, :16, :24, 0] = pictures[:, :16, 24:, 1] = pictures[:, 16:, :24, 2] = 200
    pictures[:, 16:, 24:] = (np.arange(frames) * 20).reshape(-1, 1, 1, 1)
    return pictures


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(30000, 1001), Fraction(25, 2)])
def test_frames_rate_and_colours_are_read_back(fps: Fraction) -> None:
    made = colours(7)
    data = encode_video(made, fps=fps)
    layout = check_normalised(data)
    assert (layout.frames, layout.fps, layout.width, layout.height) == (7, fps, 48, 32)
    read = open_reader(data).get(range(7))
    for rows in (slice(2, 14), slice(18, 30)):
        for columns in (slice(2, 22), slice(26, 46)):
            difference = read[:, rows, columns].astype(int) - made[:, rows, columns]
            assert np.abs(difference).max() <= 10, "another matrix of colours is off by nearly 20"


def test_one_frame() -> None:
    assert len(open_reader(encode_video(colours(1), fps=Fraction(24)))) == 1


def test_the_same_frames_are_the_same_bytes() -> None:
    assert encode_video(colours(3), fps=Fraction(24)) == encode_video(colours(3), fps=Fraction(24))


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "videos" / "a.mp4"
    write_whole(file, b"old")

    def no_space(self: Path, data: bytes) -> int:
        with self.open("wb") as target:
            target.write(data[:1])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(OSError, match="no space"):
        write_whole(file, b"new")
    assert [each.name for each in file.parent.iterdir()] == ["a.mp4"]
    assert file.read_bytes() == b"old"
