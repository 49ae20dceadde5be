"""The page of side-by-side videos: what is in its videos, and that it works in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from media.reader import open_reader
from schemas.errors import DatasetError
from tests.browser import opened
from tests.training.build import FPS, mp4
from tests.training.test_quality import ACTIVE, BARE, FRAMES, HEIGHT, KEYS, WIDTH, film, sample, write
from training.comparison_page import write_page
from training.isr import EvaluationError
from training.quality import measure
from training.quality_report import QualityReport

GREY = 126


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> QualityReport:
    """Two samples; the second is generated worse."""
    folder = tmp_path_factory.mktemp("page")
    dataset = write(folder / "dataset", {key: sample(key, film(n)) for n, key in enumerate(KEYS[:2])})
    (folder / "generated").mkdir()
    (folder / "generated" / f"{KEYS[0]}.mp4").write_bytes(mp4(film(0)))
    (folder / "generated" / f"{KEYS[1]}.mp4").write_bytes(mp4(255 - film(1)))
    return measure(dataset, str(folder / "generated"), settings=BARE)


def test_a_video_that_has_gone_since_is_an_error(report: QualityReport, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no such file"):
        write_page(report.model_copy(update={"generated": str(tmp_path)}), tmp_path / "page")
    with pytest.raises(DatasetError, match="no index"):
        write_page(report.model_copy(update={"dataset": str(tmp_path)}), tmp_path / "page")


def test_the_four_pictures_of_each_frame_stand_side_by_side(report: QualityReport, tmp_path: Path) -> None:
    write_page(report, tmp_path / "page")
    reader = open_reader(str(tmp_path / "page" / "videos" / f"{KEYS[0]}.mp4"))
    assert (len(reader), reader.width, reader.height, reader.fps) == (FRAMES, 4 * WIDTH, HEIGHT, FPS)
    real, garment, agnostic, generated = np.split(np.stack(list(reader)).astype(int), 4, axis=2)
    truth = film(0).astype(int)
    mask = np.s_[:, HEIGHT // 4 : HEIGHT // 2, WIDTH // 4 : WIDTH // 2]  # as tests.training.build has it
    for panel in (real, generated):
        assert np.abs(panel - truth).mean() < 5
    assert np.abs(agnostic[mask] - GREY).mean() < 5
    assert np.abs(agnostic[:, HEIGHT // 2 + 8 :] - truth[:, HEIGHT // 2 + 8 :]).mean() < 5
    assert np.abs(garment[0] - garment[-1]).mean() < 2
    other = open_reader(str(tmp_path / "page" / "videos" / f"{KEYS[1]}.mp4"))
    assert np.abs(other.get([3])[0][:, 3 * WIDTH :].astype(int) - (255 - film(1)[3].astype(int))).mean() < 5


def test_a_generated_video_of_other_size_gives_the_panels_theirs(report: QualityReport, tmp_path: Path) -> None:
    (tmp_path / "generated").mkdir()
    for key in KEYS[:2]:
        (tmp_path / "generated" / f"{key}.mp4").write_bytes(mp4(film(0, height=1024, width=768)))
    write_page(report.model_copy(update={"generated": str(tmp_path / "generated")}), tmp_path / "page")
    reader = open_reader(str(tmp_path / "page" / "videos" / f"{KEYS[0]}.mp4"))
    assert (reader.width, reader.height) == (4 * 360, 480)


def test_the_page_works_in_a_browser(report: QualityReport, tmp_path: Path) -> None:
    page = write_page(report, tmp_path / "page")
    with opened(page, tmp_path / "profile") as shown:
        shown.until("[...document.querySelectorAll('video')].every(video => video.readyState >= 1)")
        assert shown.run("[...document.querySelectorAll('h2')].map(each => each.textContent)") == [KEYS[1], KEYS[0]]
        assert shown.run("document.querySelector('p.soft').textContent").startswith(report.generated)
        assert "Shows a shirt & <more>." in shown.run("document.querySelector('section p').textContent")
        assert shown.run("[...document.querySelectorAll('tbody tr')].length") == 6
        parts = ("videoWidth", "videoHeight", "duration")
        size = [shown.run(f"document.querySelector('video').{part}") for part in parts]
        assert size == [4 * WIDTH, HEIGHT, pytest.approx(FRAMES / FPS, abs=0.02)]

        # By keyboard alone: the first stop is the first video, the next that takes Enter its action.
        shown.run("document.querySelector('video').focus()")
        shown.press(" ", number=32, text=" ")
        shown.until("!document.querySelector('video').paused && document.querySelector('video').currentTime > 0")
        shown.press(" ", number=32, text=" ")
        shown.until("document.querySelector('video').paused")
        shown.run("document.querySelector('video').currentTime = 2.5 / 24")
        for key, number, frame in ((".", 190, 3), (".", 190, 4), (",", 188, 3)):
            shown.press(key, number=number, text=key)
            time = shown.until(
                "!document.querySelector('video').seeking && document.querySelector('video').currentTime"
            )
            assert int(time * FPS) == frame
        shown.run("document.querySelector('button').focus()")
        assert "<lifts> it" in shown.run("document.activeElement.textContent")
        shown.press("Enter", number=13, text="\r")
        shown.until(f"Math.floor(document.querySelector('video').currentTime * {FPS}) === {ACTIVE[0]}")
        shown.run("document.querySelector('video').controls = false")  # they lie over the picture
        truth = film(1)[ACTIVE[0]].astype(float)
        for _ in range(50):  # until the frame is painted
            seen = shown.picture("video").astype(float)
            if np.abs(seen[:, :WIDTH] - truth).mean() < 6:  # the next frame would be 10 away
                break
        assert np.abs(seen[:, :WIDTH] - truth).mean() < 6
        assert np.abs(seen[:, 3 * WIDTH :] - (255 - truth)).mean() < 6
        strip, button = shown.run(
            "[...document.querySelectorAll('.strip')].slice(0, 1).flatMap(strip => "
            "[strip, strip.firstElementChild].map(each => each.getBoundingClientRect().width))"
        )
        assert button / strip == pytest.approx((ACTIVE[1] - ACTIVE[0] + 1) / FRAMES, abs=0.03)
        assert shown.run("document.documentElement.scrollWidth <= window.innerWidth")
        assert shown.problems == []
