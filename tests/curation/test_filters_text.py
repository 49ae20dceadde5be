"""Burned-in text is measured; text in the scene and things that look like letters are not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from curation.filters.text import BurnedInText
from schemas.clip import Clip
from schemas.errors import MissingExtraError, WeightsError
from tests.clips import shared
from tests.curation.degrade import Pictures, from_pictures, normalised, pictures_of


@pytest.fixture(scope="module")
def reader() -> BurnedInText:
    pytest.importorskip("rapidocr")
    stage = BurnedInText()
    try:
        stage.setup()
    except WeightsError as error:
        pytest.skip(str(error))
    return stage


@pytest.fixture(scope="module")
def dancer(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Three seconds at 10 frames a second of a man before a wall."""
    file = tmp_path_factory.mktemp("text") / "clip.mp4"
    return pictures_of(normalised(shared("clips/dance_man.mp4"), file, "fps=10"))


def share(reader: BurnedInText, clip: Clip) -> float:
    reader.process(clip)
    return clip.metrics["text_share"]


def written(
    pictures: Pictures,
    target: Path,
    where: Callable[[int], tuple[int, int]],
    *,
    words: str = "SALE 50% OFF",
    size: float = 2,
) -> Clip:
    """`words` on every picture, the lower left corner at `where(frame)`."""
    import cv2

    pictures = pictures.copy()
    for i, picture in enumerate(pictures):
        for colour, thickness in (((0, 0, 0), round(6 * size)), ((255, 255, 255), round(2.5 * size))):
            cv2.putText(picture, words, where(i), cv2.FONT_HERSHEY_SIMPLEX, size, colour, thickness, cv2.LINE_AA)
    return from_pictures(pictures, target, fps=10)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtraError, match=r"vvt-interact\[conditions\]"):
        BurnedInText().setup()


@pytest.mark.parametrize("name", ["vivid/videos/lower1", "vivid/videos/upper1", "dance_man", "open_hand"])
def test_clips_without_burned_in_text_stay(reader: BurnedInText, name: str, tmp_path: Path) -> None:
    """Upper1's panelled wall reads as the letter 二, dance_man wears letters before a wall with posters."""
    clip = normalised(shared(f"clips/{name}.mp4"), tmp_path / "clip.mp4", seconds=8)
    share(reader, clip)
    assert reader.decide(clip.metrics) is None


@pytest.mark.parametrize("start", ["0", "5"])
def test_subtitles_are_caught(reader: BurnedInText, start: str, tmp_path: Path) -> None:
    trim = (f"trim=start={start}", "setpts=PTS-STARTPTS", "scale=720:-2")
    clip = normalised(shared("clips/dance_woman.mp4"), tmp_path / "clip.mp4", *trim, seconds=5)
    assert 0.08 < share(reader, clip) < 0.2
    assert reader.decide(clip.metrics)


def test_the_share_grows_with_the_letters(reader: BurnedInText, dancer: Pictures, tmp_path: Path) -> None:
    values = [
        share(reader, written(dancer, tmp_path / f"{i}.mp4", lambda _: (20, 950), size=size))
        for i, size in enumerate((0.8, 1.4, 2.2))
    ]
    assert values == sorted(values)
    assert values[0] > 0
    assert reader.decide({"text_share": values[-1]})


def test_text_on_what_moves_does_not_count(reader: BurnedInText, dancer: Pictures, tmp_path: Path) -> None:
    still = written(dancer, tmp_path / "still.mp4", lambda _: (90, 500), size=1.5)
    assert share(reader, still) > 0.02
    swaying = written(dancer, tmp_path / "sways.mp4", lambda i: (90 + round(12 * np.sin(i / 2.5)), 500), size=1.5)
    assert share(reader, swaying) == 0


def test_subtitles_that_change_every_two_seconds_count(reader: BurnedInText, dancer: Pictures, tmp_path: Path) -> None:
    early = pictures_of(written(dancer[:20], tmp_path / "early.mp4", lambda _: (20, 950), words="NEW IN STOCK"))
    late = pictures_of(written(dancer[10:], tmp_path / "late.mp4", lambda _: (20, 950), words="ONLY TODAY"))
    clip = from_pictures(np.concatenate([early, late]), tmp_path / "both.mp4", fps=10)
    assert share(reader, clip) > 0.02


@pytest.mark.parametrize("frames", [1, 3])
def test_tiny_clips_are_read(reader: BurnedInText, dancer: Pictures, frames: int, tmp_path: Path) -> None:
    assert share(reader, written(dancer[:frames], tmp_path / "tiny.mp4", lambda _: (20, 950))) > 0.02
    assert share(reader, from_pictures(np.zeros((frames, 16, 16, 3), np.uint8), tmp_path / "small.mp4")) == 0


def test_the_same_clip_reads_the_same(reader: BurnedInText, dancer: Pictures, tmp_path: Path) -> None:
    clip = written(dancer, tmp_path / "clip.mp4", lambda _: (20, 950))
    other = BurnedInText()
    other.setup()
    assert share(reader, clip) == share(other, clip)
