"""Every backend reads the same frames by number, and refuses what it would number wrongly."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import media
from media.reader import Backend, FrameReader
from schemas.errors import ConfigError, MediaError, MissingExtraError
from tests.media.cases import CASES, OPEN, UNEVEN, Case
from tests.media.numbered import read, write

BACKENDS = get_args(Backend)
FRAMES = 60


def opened(video: bytes | Path, backend: str) -> FrameReader:
    try:
        return media.open_reader(video, backend=backend)  # type: ignore[arg-type]
    except (MissingExtraError, ConfigError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return media.normalise(write(tmp_path_factory.mktemp("clip") / "video.ts", FRAMES, options=OPEN)).video


@pytest.mark.parametrize("backend", BACKENDS)
class TestBackend:
    def test_reads_every_frame_in_order(self, backend: str, clip: bytes) -> None:
        reader = opened(clip, backend)
        assert [read(image) for image in reader] == list(range(FRAMES))
        assert (len(reader), reader.width, reader.height, reader.fps) == (FRAMES, 320, 180, 25)
        np.testing.assert_allclose(reader.timestamps, np.arange(FRAMES) / 25)

    def test_reads_any_frames_in_any_order(self, backend: str, clip: bytes) -> None:
        reader = opened(clip, backend)
        wanted = [59, 0, 31, 31, 12, 11, 58]
        images = reader.get(wanted)
        assert [read(image) for image in images] == wanted
        assert (images.shape, images.dtype) == ((7, 180, 320, 3), np.uint8)
        assert reader.get([]).shape == (0, 180, 320, 3)

    @pytest.mark.parametrize("wrong", [-1, FRAMES])
    def test_knows_its_end(self, backend: str, wrong: int, clip: bytes) -> None:
        with pytest.raises(IndexError, match=str(wrong)):
            opened(clip, backend).get([0, wrong])

    def test_reads_files(self, backend: str, clip: bytes, tmp_path: Path) -> None:
        (tmp_path / "clip.mp4").write_bytes(clip)
        assert read(opened(tmp_path / "clip.mp4", backend).get([7])[0]) == 7

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_reads_what_was_normalised(self, backend: str, case: Case, tmp_path: Path) -> None:
        normalised = media.normalise(case.make(tmp_path))
        reader = opened(normalised.video, backend)
        got = [read(image) for image in reader.get(range(len(reader)))]
        if normalised.span.fps == 25 and not case.varies:
            assert got == list(case.numbers)
        else:
            assert None not in got
            assert got == sorted(got)


def test_pyav_seeks_to_each_frame(clip: bytes) -> None:
    reader = media.open_reader(clip)
    assert [read(reader.get([index])[0]) for index in range(FRAMES)] == list(range(FRAMES))


@pytest.mark.parametrize("backend", [backend for backend in BACKENDS if backend != "pyav"])
@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("video.ts", {}, "mpegts"),
        ("video.mp4", {"times": UNEVEN}, "is shown at"),
        ("video.mp4", {"codec": "libx265"}, "hevc"),
        ("video.mp4", {"squeezed": 2, "pixel_aspect": 2}, "square"),
        ("video.mp4", {"turn": (90, False)}, "turned"),
        ("video.mkv", {}, "matroska"),
    ],
)
def test_raw_recordings_are_refused(
    backend: str, file: str, options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    video = write(tmp_path / file, 30, **options)
    with pytest.raises(MediaError, match=words) as caught:
        media.open_reader(video, backend=backend)  # type: ignore[arg-type]
    assert caught.value.code == "unsupported"


@pytest.mark.parametrize("case", CASES[:14], ids=lambda case: case.name)
def test_pyav_reads_raw_recordings_by_number(case: Case, tmp_path: Path) -> None:
    reader = media.open_reader(case.make(tmp_path))
    assert len(reader) == len(case.numbers)
    wanted = [20, 3, 3]
    assert [read(image) for image in reader.get(wanted)] == [case.numbers[index] for index in wanted]
    np.testing.assert_allclose(reader.timestamps, case.seconds(), atol=0.002)
    assert [read(image) for image in reader] == list(case.numbers)


@pytest.mark.parametrize("package", ["decord", "torchcodec"])
def test_absent_package_names_its_extra(package: str, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def absent(name: str, *rest: Any) -> Any:
        if name.startswith(package):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"vvt-interact\[train\]"):
        media.open_reader(clip, backend=package)  # type: ignore[arg-type]


def test_unknown_backend_is_named(clip: bytes) -> None:
    with pytest.raises(ConfigError, match="pyav, decord, torchcodec"):
        media.open_reader(clip, backend="opencv")  # type: ignore[arg-type]


def test_import_of_media_is_light() -> None:
    heavy = ("torch", "cv2", "decord", "torchcodec")
    code = f"import sys, media; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
