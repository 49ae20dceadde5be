"""Model-free filters: good clips stay, bad ones go, and each number grows with what it measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.filters.bitrate import Bitrate
from curation.filters.blockiness import Blockiness
from curation.filters.blur import Blur
from curation.filters.borders import Borders
from curation.filters.exposure import Exposure
from curation.filters.freeze import Freeze
from curation.filters.motion import Motion
from curation.filters.noise import Noise
from curation.filters.resolution import Resolution
from media import forget
from schemas.clip import Clip
from schemas.metrics import outside
from schemas.stage import Filter
from tests.clips import X264, clip_from, shared
from tests.curation.degrade import ffmpeg, from_pictures, normalised, pictures_of, scene

FILTERS = (Bitrate, Resolution, Exposure, Borders, Motion, Freeze, Blur, Blockiness, Noise)
GOOD = ("vivid/videos/lower1.mp4", "vivid/videos/upper1.mp4", "dance_man.mp4", "open_hand.mp4", "dance_woman.mp4")


def measure(kind: type[Filter], clip: Clip) -> dict[str, float]:
    stage = kind()
    stage.setup()
    stage.process(clip)
    return {name: clip.metrics[name] for name in kind.metrics if name in clip.metrics}


def drops(clip: Clip) -> list[str]:
    """Metrics of `clip` that leave their default bounds."""
    for kind in FILTERS:
        measure(kind, clip)
    return [drop.metric for kind in FILTERS if (drop := kind().decide(clip.metrics))]


@pytest.fixture(params=["vivid/videos/lower1.mp4", "dance_man.mp4"])
def real(request: pytest.FixtureRequest) -> Path:
    return shared(f"clips/{request.param}")


# Nothing to see, or hardly anything.


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_one_colour_is_flat_and_frozen_and_breaks_nothing(level: int, tmp_path: Path) -> None:
    clip = from_pictures(np.full((50, 120, 90, 3), level, np.uint8), tmp_path / "flat.mp4")
    dropped = drops(clip)
    assert clip.metrics["flat_share"] == 1
    assert clip.metrics["frozen_share"] == 1
    assert clip.metrics["motion"] == 0
    assert clip.metrics["border_share"] == 0
    assert {"flat_share", "frozen_share", "motion", "blur"} <= {*dropped, "flat_share"}


@pytest.mark.parametrize("frames", [1, 2, 6])
@pytest.mark.parametrize("size", [(16, 16), (240, 180)])
def test_tiny_clips_are_measured_without_a_crash(frames: int, size: tuple[int, int], tmp_path: Path) -> None:
    clip = from_pictures(scene(frames, height=240, width=180)[:, : size[0], : size[1]], tmp_path / "tiny.mp4")
    drops(clip)
    assert all(np.isfinite(value) for value in clip.metrics.values())
    if frames == 1:
        assert not {"motion", "frozen_share"} & set(clip.metrics)


@pytest.mark.parametrize("path", GOOD)
def test_good_clips_stay_under_default_bounds(path: str, tmp_path: Path) -> None:
    clip = normalised(shared(f"clips/{path}"), tmp_path / "clip.mp4", r"scale=min(720\,iw):-2", seconds=4)
    clip.source = replace(clip.source, codec="h264")
    assert drops(clip) == []


@pytest.mark.parametrize("kind", FILTERS)
def test_every_value_is_in_its_range_and_the_same_twice(kind: type[Filter], tmp_path: Path) -> None:
    clip = from_pictures(scene(), tmp_path / "scene.mp4")
    first = measure(kind, clip)
    assert first
    forget(clip)
    assert first == measure(kind, clip)
    assert not [name for name, value in first.items() if outside(value, kind.metrics[name].range)]


# Compression and focus.


@pytest.mark.parametrize("scale", ["null", "scale=iw*2/3:-2"], ids=["as recorded", "scaled by the ingest"])
def test_blockiness_grows_with_the_quantiser(real: Path, scale: str, tmp_path: Path) -> None:
    values = []
    for quantiser in (3, 8, 16, 31):
        coded = ffmpeg(real, tmp_path / "coded.mp4", "-c:v", "mpeg4", "-qscale:v", str(quantiser), seconds=0.6)
        recording = clip_from(coded).source
        clip = normalised(coded, tmp_path / f"{quantiser}.mp4", scale)
        clip.source = replace(clip.source, width=recording.width, height=recording.height)
        values.append(measure(Blockiness, clip)["blockiness"])
    assert values == sorted(values)
    assert values[-1] > 1.5 * values[0]
    if scale == "null":
        assert Blockiness().decide({"blockiness": values[-1]})


def test_a_low_bitrate_shows_in_blocks_and_is_dropped(real: Path, tmp_path: Path) -> None:
    values = []
    for crf in (18, 34, 48):
        options = (*X264, "-preset", "veryfast", "-crf", str(crf))
        coded = ffmpeg(real, tmp_path / "coded.mp4", *options, seconds=0.6)
        clip = normalised(coded, tmp_path / f"{crf}.mp4")
        clip.span = replace(clip.span, bytes=coded.stat().st_size)
        values.append(measure(Blockiness, clip)["blockiness"])
    assert values == sorted(values)
    assert {"blockiness", "bitrate", "bits_per_pixel"} & set(drops(clip))


def test_blur_grows_with_a_gaussian(real: Path, tmp_path: Path) -> None:
    values = [
        measure(Blur, normalised(real, tmp_path / f"{sigma}.mp4", f"gblur=sigma={sigma}", seconds=0.6))["blur"]
        for sigma in (0.01, 1, 2, 4)
    ]
    assert values == sorted(values)
    assert not Blur().decide({"blur": values[0]})
    assert Blur().decide({"blur": values[-1]})


def test_a_picture_scaled_up_is_blurred(real: Path, tmp_path: Path) -> None:
    small = measure(Blur, normalised(real, tmp_path / "up.mp4", "scale=iw/4:-2,scale=iw*4:-2", seconds=1))["blur"]
    assert small > measure(Blur, normalised(real, tmp_path / "as.mp4", seconds=1))["blur"] + 0.1


def test_a_sharp_person_before_a_blurred_background_is_sharp(tmp_path: Path) -> None:
    import cv2

    sharp = scene(10)
    bokeh = np.stack([cv2.GaussianBlur(picture, (0, 0), 6) for picture in sharp])
    bokeh[:, 60:180] = sharp[:, 60:180]
    everywhere = np.stack([cv2.GaussianBlur(picture, (0, 0), 6) for picture in sharp])
    values = [
        measure(Blur, from_pictures(pictures, tmp_path / f"{name}.mp4"))["blur"]
        for name, pictures in (("sharp", sharp), ("bokeh", bokeh), ("everywhere", everywhere))
    ]
    assert values[1] - values[0] < 0.3 * (values[2] - values[0])


def test_noise_is_measured_in_levels(real: Path, tmp_path: Path) -> None:
    pictures = pictures_of(normalised(real, tmp_path / "clean.mp4", "crop=400:400", seconds=0.3)).astype(np.float32)
    random = np.random.default_rng(3)
    for sigma in (0, 3, 6, 12):
        noisy = np.clip(pictures + random.normal(0, sigma, pictures.shape[:3])[..., None], 0, 255).astype(np.uint8)
        value = measure(Noise, from_pictures(noisy, tmp_path / f"{sigma}.mp4", crf=1))["noise"]
        assert value == pytest.approx(sigma, rel=0.2, abs=0.6)
    assert Noise().decide({"noise": 12.0})


# Exposure, bars.


def test_fades_and_flashes_change_the_luma(real: Path, tmp_path: Path) -> None:
    plain = measure(Exposure, normalised(real, tmp_path / "plain.mp4", seconds=1))
    faded = measure(Exposure, normalised(real, tmp_path / "faded.mp4", "fade=out:st=0.2:d=0.6", seconds=1))
    assert not Exposure().decide(plain)
    assert faded["luma_change"] > 60 > plain["luma_change"]
    assert faded["flat_share"] > 0.1 > plain["flat_share"]
    assert Exposure().decide(faded)


def test_dark_and_blown_out_pictures_are_dropped(tmp_path: Path) -> None:
    pictures = scene(10).astype(np.float32)
    for factor, offset in ((0.1, 0), (0.1, 240)):
        clip = from_pictures((pictures * factor + offset).clip(0, 255).astype(np.uint8), tmp_path / "clip.mp4")
        assert Exposure().decide(measure(Exposure, clip))


@pytest.mark.parametrize("colour", ["black", "white", "0x335577"])
@pytest.mark.parametrize(("bar", "share"), [(0.02, 0.04), (0.1, 0.2), (0.25, 0.5)])
@pytest.mark.parametrize("side", ["letterbox", "pillarbox"])
def test_bars_are_measured(side: str, bar: float, share: float, colour: str, tmp_path: Path) -> None:
    real = shared("clips/dance_man.mp4")
    inner = f"scale=iw:trunc(ih*{1 - 2 * bar}/2)*2" if side == "letterbox" else f"scale=trunc(iw*{1 - 2 * bar}/2)*2:ih"
    pad = f"{inner},pad=576:1024:(ow-iw)/2:(oh-ih)/2:{colour}"
    value = measure(Borders, normalised(real, tmp_path / "bars.mp4", pad, seconds=1))["border_share"]
    assert value == pytest.approx(share, abs=0.015)
    assert Borders().decide({"border_share": value})


def test_bars_on_all_sides_are_not_counted_twice(tmp_path: Path) -> None:
    pictures = np.zeros((10, 200, 200, 3), np.uint8)
    pictures[:, 20:180, 20:180] = scene(10)[:, 40:200, 10:170]
    value = measure(Borders, from_pictures(pictures, tmp_path / "box.mp4"))["border_share"]
    assert value == pytest.approx(1 - 0.8 * 0.8, abs=0.02)


@pytest.mark.parametrize("level", [0, 255])
def test_a_plain_studio_wall_is_no_bar(level: int, tmp_path: Path) -> None:
    import cv2

    pictures = np.full((10, 240, 180, 3), level, np.uint8)
    for i, picture in enumerate(pictures):
        cv2.ellipse(picture, (90 + i, 150), (40, 100), 0, 0, 360, (90, 140, 60), -1)
        cv2.circle(picture, (90 + i, 60), 22, (200, 160, 140), -1)
    assert measure(Borders, from_pictures(pictures, tmp_path / "studio.mp4"))["border_share"] == 0


# Time.


def test_frozen_share_is_the_share_of_time_that_stands_still(tmp_path: Path) -> None:
    for still in (0, 25, 50, 100):
        pictures = scene(100)
        pictures[100 - still :] = pictures[100 - still - 1 if still < 100 else 0]
        values = measure(Freeze, from_pictures(pictures, tmp_path / f"{still}.mp4"))
        assert values["frozen_share"] == pytest.approx(still / 100, abs=0.06)
        assert values["longest_freeze"] == pytest.approx(still / 25, abs=0.25)


def test_a_still_picture_with_codec_noise_is_frozen(real: Path, tmp_path: Path) -> None:
    coded = ffmpeg(real, tmp_path / "still.mp4", "-vf", "loop=50:1:0", *X264, "-crf", "30", "-g", "7", seconds=1.5)
    assert measure(Freeze, normalised(coded, tmp_path / "again.mp4"))["frozen_share"] == 1


@pytest.mark.parametrize("rate", [8, 10, 12, 15])
def test_frames_that_a_rate_conversion_repeats_are_no_freeze(rate: int, tmp_path: Path) -> None:
    clip = normalised(shared("clips/dance_man.mp4"), tmp_path / "slow.mp4", f"fps={rate}", "fps=30", seconds=4)
    assert measure(Freeze, clip)["frozen_share"] == 0


def test_one_moving_hand_is_enough_not_to_be_frozen(tmp_path: Path) -> None:
    pictures = np.repeat(scene(1), 50, axis=0)
    for i, picture in enumerate(pictures):
        picture[100:112, 60 + i : 72 + i] = (220, 180, 160)
    assert measure(Freeze, from_pictures(pictures, tmp_path / "hand.mp4"))["frozen_share"] == 0


def test_a_slide_show_is_dropped(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    slides = np.repeat(random.integers(0, 255, (4, 15, 12, 3), np.uint8), 25, axis=0)
    pictures = slides.repeat(16, axis=1).repeat(16, axis=2)
    values = measure(Freeze, from_pictures(pictures, tmp_path / "slides.mp4"))
    assert values["frozen_share"] > 0.8
    assert Freeze().decide(values)


def test_motion_grows_with_speed_and_is_nought_without(tmp_path: Path) -> None:
    values = [
        measure(Motion, from_pictures(scene(50, step=step), tmp_path / f"{step}.mp4"))["motion"]
        for step in (0, 0.4, 0.8, 1.6)
    ]
    assert values == sorted(values)
    assert values[0] < 0.05
    assert Motion().decide({"motion": values[0]})
    assert not Motion().decide({"motion": values[1]})


def test_camera_motion_is_the_speed_of_the_background(tmp_path: Path) -> None:
    wide = scene(1, height=480, width=720)[0]
    for step in (0, 2, 4):
        panned = np.stack([wide[100:340, step * i : step * i + 180] for i in range(50)])
        values = measure(Motion, from_pictures(panned, tmp_path / f"{step}.mp4"))
        assert values["camera_motion"] == pytest.approx(step * 25 / 240 * 100, rel=0.15, abs=0.2)


def test_camera_motion_grows_with_shake_and_a_walking_person_is_none(tmp_path: Path) -> None:
    wide = scene(50, height=300, width=240)
    random = np.random.default_rng(2)
    values = []
    for amplitude in (0, 4, 10, 25):
        offsets = 30 + np.round(random.uniform(-1, 1, (50, 2)) * amplitude).astype(int)
        shaken = np.stack([picture[y : y + 240, x : x + 180] for picture, (y, x) in zip(wide, offsets, strict=True)])
        values.append(measure(Motion, from_pictures(shaken, tmp_path / f"{amplitude}.mp4"))["camera_motion"])
    assert values == sorted(values)
    assert values[0] < 4  # of the 21 %/s that the person walks
    assert Motion().decide({"motion": 5.0, "camera_motion": values[-1]})


# The recording.


def test_bits_count_as_h264_would_have_needed_them(tmp_path: Path) -> None:
    clip = from_pictures(scene(50), tmp_path / "clip.mp4")
    clip.span = replace(clip.span, bytes=100_000)
    plain = measure(Bitrate, clip)
    assert plain["bitrate"] == pytest.approx(100_000 * 8 / 2 / 1000)
    assert plain["bits_per_pixel"] == pytest.approx(800_000 / (240 * 180 * 50))
    clip.source = replace(clip.source, codec="av1")
    assert measure(Bitrate, clip)["bitrate"] == 2 * plain["bitrate"]
    stage = Bitrate(efficiency={"av1": 3})
    stage.process(clip)
    assert clip.metrics["bitrate"] == 3 * plain["bitrate"]


def test_a_recording_that_does_not_tell_its_bytes_is_not_judged(tmp_path: Path) -> None:
    clip = from_pictures(scene(5), tmp_path / "clip.mp4")
    clip.span = replace(clip.span, bytes=0)
    assert measure(Bitrate, clip) == {}


def test_resolution_is_the_recordings_own(tmp_path: Path) -> None:
    clip = from_pictures(scene(5), tmp_path / "clip.mp4")
    clip.source = replace(clip.source, width=1920, height=1080)
    assert measure(Resolution, clip) == {"short_side": 1080}
