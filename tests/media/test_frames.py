"""`media.frames`: what stages see of a clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import media
from schemas.clip import Clip
from schemas.errors import MediaError
from tests.clips import clip_from, shared
from tests.media.numbered import read, write

FRAMES = 30


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    (tmp_path / "clip.mp4").write_bytes(media.normalise(write(tmp_path / "raw.mp4", FRAMES)).video)
    clip = clip_from(tmp_path / "clip.mp4", pair_id=tmp_path.name.replace("_", "-")[:60])
    yield clip
    media.forget(clip)


def test_all_frames_at_full_size(clip: Clip) -> None:
    batch = media.frames(clip)
    assert [read(image) for image in batch.images] == list(range(FRAMES)) == batch.indices.tolist()
    assert (batch.images.shape, batch.images.dtype, batch.scale) == ((FRAMES, 180, 320, 3), np.uint8, (1, 1))
    assert len(batch) == FRAMES


def test_fewer_and_smaller(clip: Clip) -> None:
    batch = media.frames(clip, fps=5, height=90)
    assert [read(image) for image in batch.images] == batch.indices.tolist() == list(range(0, FRAMES, 5))
    assert (batch.images.shape[1:], batch.scale) == ((90, 160, 3), (0.5, 0.5))


def test_never_scaled_up(clip: Clip) -> None:
    assert media.frames(clip, height=1000).images.shape[1:3] == (180, 320)


def test_decoded_once_and_shared(clip: Clip) -> None:
    whole = media.frames(clip)
    assert media.frames(clip) is whole
    part = media.frames(clip, fps=5)
    assert np.shares_memory(part.images, whole.images)
    assert part.indices.tolist() == list(range(0, FRAMES, 5))
    with pytest.raises(ValueError, match="read-only"):
        whole.images[0, 0, 0] = 0
    media.forget(clip)
    assert media.frames(clip) is not whole


def test_another_video_of_the_same_name_and_length_is_decoded(clip: Clip) -> None:
    before = media.frames(clip)
    video = bytearray(clip.artifacts["video"])
    video[-1] ^= 1
    clip.artifacts["video"] = bytes(video)
    assert media.frames(clip) is not before


def test_missing_frames_are_an_error(clip: Clip) -> None:
    clip.span = replace(clip.span, frames=FRAMES + 1)
    with pytest.raises(MediaError, match="30 frames, not 31"):
        media.frames(clip)


def test_cut_off_bytes_are_an_error(clip: Clip) -> None:
    clip.artifacts["video"] = clip.artifacts["video"][: len(clip.artifacts["video"]) // 2]
    with pytest.raises(MediaError):
        media.frames(clip)


def test_real_clip() -> None:
    clip = clip_from(shared("clips/dance_man.mp4"))
    batch = media.frames(clip, fps=1, height=256)
    media.forget(clip)
    assert batch.images.shape == (13, 256, 144, 3)
    assert 20 < batch.images.mean() < 235
