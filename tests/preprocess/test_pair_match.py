"""Does the garment image show the garment worn? By colour and pattern, on a drawn person and on real ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from media import frames
from preprocess.garment_crop import GarmentCrop
from preprocess.pair_check.cuts import cut_out
from preprocess.pair_check.match import PairMatch
from preprocess.pair_check.statistics import colour_match, pattern_match
from schemas.clip import Clip
from schemas.conditions import Label
from tests.clips import shared
from tests.preprocess import worn

BOUND = PairMatch.metrics["garment_colour_match"].default[0]
SHIRT = (180, 40, 60)


def stripes(size: tuple[int, int], *, period: float, colour: tuple[int, int, int] = SHIRT) -> np.ndarray:
    """(H, W, 3) white with stripes across."""
    picture = np.full((*size, 3), 245, np.uint8)
    picture[np.arange(size[0]) % period < period / 2] = colour
    return picture


def dressed(cloth: np.ndarray | tuple[int, int, int] = SHIRT, *, length: int = 5) -> Clip:
    """The drawn person, whose shirt shows `cloth`, (320, 240, 3) or one colour; the garment image is not in it."""
    labels = worn.drawn_labels(length)
    picture = np.full((*labels.shape[1:], 3), 200, np.uint8)
    picture[np.isin(labels[0], (Label.FACE, Label.LEFT_ARM, Label.RIGHT_ARM))] = (220, 180, 150)
    picture[labels[0] == Label.PANTS] = (40, 40, 45)
    shirt = labels[0] == Label.UPPER_CLOTHES
    picture[shirt] = np.broadcast_to(np.asarray(cloth, np.uint8), picture.shape)[shirt]
    clip = worn.encode(np.repeat(picture[None], length, axis=0))
    clip.pair = clip.pair.model_copy(update={"garment": "garment.png"})
    clip.artifacts["parsing"] = labels
    return clip


def shown(
    clip: Clip, cloth: np.ndarray | tuple[int, int, int] = SHIRT, *, size: tuple[int, int] = (150, 120)
) -> dict[str, float]:
    """What is measured of `clip` and of a product image of `cloth` on white, with a shirt of `size`."""
    height, width = size
    image = np.full((height + 40, width + 30, 3), 255, np.uint8)
    mask = np.zeros(image.shape[:2], bool)
    mask[20 : 20 + height, 15 : 15 + width] = True
    cloth = np.asarray(cloth, np.uint8)
    image[mask] = cloth if cloth.ndim == 1 else cloth[:height, :width].reshape(-1, 3)
    clip.artifacts["garment"], clip.artifacts["garment_mask"] = image, mask
    stage = PairMatch()
    stage.process(clip)
    return {name: value for name, value in clip.metrics.items() if name in PairMatch.metrics}


def test_one_colour_matches_itself_and_no_other() -> None:
    clip = dressed()
    right = shown(clip)
    assert right["garment_colour_match"] > 0.85  # H.264 halves the resolution of colour
    assert right["garment_pattern_match"] > 0.85
    assert PairMatch().decide(right) is None
    for other in ((60, 180, 40), (40, 60, 180), (20, 20, 20), (250, 250, 250)):
        wrong = shown(clip, other)
        assert wrong["garment_colour_match"] < BOUND
        assert wrong["garment_pattern_match"] > 0.85
        drop = PairMatch().decide(wrong)
        assert drop
        assert drop.metric == "garment_colour_match"


def test_another_light_is_no_other_garment() -> None:
    clip = dressed()
    right = shown(clip)["garment_colour_match"]
    for light in ((130, 29, 43), (180, 46, 50), (165, 55, 70), (213, 47, 71)):  # darker, warmer, duller, brighter
        assert BOUND + 0.2 < shown(clip, light)["garment_colour_match"] < right


def test_a_print_tells_a_shirt_from_a_plain_one_and_from_another_print() -> None:
    cloth = stripes(worn.DRAWN, period=12)
    clip = dressed(cloth)
    # The drawn shirt is 72 px wide, the image's 144: the same cloth has stripes twice as wide there.
    same = stripes((400, 300), period=24)
    turned = np.ascontiguousarray(stripes((300, 400), period=24).transpose(1, 0, 2))
    wide = stripes((400, 300), period=100)
    matches = [
        shown(clip, cloth, size=(186, 144))["garment_pattern_match"] for cloth in (same, turned, wide, (212, 142, 152))
    ]
    assert matches[0] > 0.8
    assert max(matches[1:]) < matches[0] - 0.15
    assert matches[3] < 0.5


def test_share_of_colours_counts_and_not_their_place() -> None:
    two = np.full((*worn.DRAWN, 3), 245, np.uint8)
    two[:118] = SHIRT  # the shirt's upper half
    clip = dressed(two)
    image = np.full((150, 120, 3), 245, np.uint8)
    image[75:] = SHIRT
    halves = shown(clip, image)["garment_colour_match"]
    image[:] = SHIRT
    assert halves > 0.75
    assert shown(clip, image)["garment_colour_match"] < halves - 0.15


def test_size_of_the_garment_image_does_not_matter() -> None:
    clip = dressed(stripes(worn.DRAWN, period=12))
    values = [
        shown(clip, stripes((800, 600), period=period), size=size)
        for period, size in ((24, (186, 144)), (48, (372, 288)), (96, (744, 576)))
    ]
    for name in PairMatch.metrics:
        assert np.ptp([value[name] for value in values]) < 0.05


def test_what_hides_the_garment_is_not_compared() -> None:
    clip = dressed()
    before = shown(clip)
    track = clip.artifacts["parsing"] == Label.UPPER_CLOTHES
    track |= np.isin(clip.artifacts["parsing"], (Label.LEFT_ARM, Label.RIGHT_ARM))  # as if it went on behind them
    clip.artifacts["garment_track"] = track
    assert shown(clip) == before


def test_where_the_garment_is_tracked_the_parsing_may_err() -> None:
    clip = dressed()
    before = shown(clip)
    clip.artifacts["garment_track"] = clip.artifacts["parsing"] == Label.UPPER_CLOTHES
    clip.artifacts["parsing"] = np.where(clip.artifacts["garment_track"], np.uint8(Label.PANTS), np.uint8(0))
    assert shown(clip) == before


def test_a_few_bad_frames_do_not_count() -> None:
    clip = dressed(length=7)
    before = shown(clip)
    clip.artifacts["parsing"][:2] = 0
    clip.artifacts["parsing"][2, 160:300] = Label.UPPER_CLOTHES  # the trousers, too
    after = shown(clip)
    for name in PairMatch.metrics:
        assert after[name] == pytest.approx(before[name], abs=0.02)


def test_frames_that_hardly_show_the_garment_are_passed_over() -> None:
    clip = dressed(length=12)
    before = shown(clip)
    labels = clip.artifacts["parsing"]
    labels[4:][labels[4:] == Label.UPPER_CLOTHES] = Label.OTHER
    labels[4:, 240:275, 90:115] = Label.UPPER_CLOTHES  # a shin, dark
    assert shown(clip)["garment_colour_match"] == pytest.approx(before["garment_colour_match"], abs=0.02)


def test_patterns_are_compared_in_the_coarser_resolution() -> None:
    cloth = stripes((400, 400), period=26)
    large = cut_out(cloth, np.ones((400, 400), bool))
    small = cut_out(cv2.resize(cloth, (24, 24), interpolation=cv2.INTER_AREA), np.ones((24, 24), bool))
    assert large
    assert small
    assert pattern_match(large, small) == pattern_match(small, large) > 0.75


@pytest.mark.parametrize("length", [1, 2])
def test_short_clips_are_compared(length: int) -> None:
    assert shown(dressed(length=length))["garment_colour_match"] > 0.85


def test_nothing_is_measured_where_there_is_nothing_to_compare() -> None:
    clip = dressed()
    clip.artifacts["parsing"] = np.zeros_like(clip.artifacts["parsing"])
    assert shown(clip) == {}  # nobody
    clip = dressed()
    assert shown(clip, size=(3, 3)) == {}  # too few pixels in the image
    clip.artifacts["garment_mask"][:] = False
    assert PairMatch().measure(clip) == {}
    clip = dressed()
    clip.artifacts["parsing"][:] = 0
    clip.artifacts["parsing"][:, 100, 100] = Label.UPPER_CLOTHES  # too few worn
    assert shown(clip) == {}
    clip = dressed()
    clip.pair = clip.pair.model_copy(update={"garment": None})
    assert shown(clip) == {}  # cut out of this very clip
    assert PairMatch().decide({}) is None


def test_garments_that_fill_their_image_to_the_rim_and_thin_ones() -> None:
    clip = dressed()
    assert shown(clip, size=(800, 6))["garment_colour_match"] > 0.85
    clip.artifacts["garment"] = np.full((60, 50, 3), SHIRT, np.uint8)
    clip.artifacts["garment_mask"] = np.ones((60, 50), bool)
    assert PairMatch().measure(clip)["garment_colour_match"] > 0.85


def test_numbers_stay_in_their_range() -> None:
    random = np.random.default_rng(0)
    clip = dressed(random.integers(0, 256, (*worn.DRAWN, 3), dtype=np.uint8))
    for _ in range(5):
        noise = random.integers(0, 256, (150, 120, 3), dtype=np.uint8)
        assert all(0 <= value <= 1 for value in shown(clip, noise).values())


def test_the_colour_difference_is_cie94_of_textiles() -> None:
    def alike(one: tuple[float, ...], other: tuple[float, ...]) -> float:
        samples = (np.tile(np.float32(colour), (128, 1)) for colour in (one, other))
        return colour_match(*samples, tolerance=10)

    assert alike((50, 10, 20), (50, 10, 20)) == 1
    assert alike((50, 0, 0), (70, 0, 0)) == pytest.approx(np.exp(-1), abs=1e-5)  # lightness counts half
    chroma = np.sqrt(40 * 60)
    assert alike((50, 40, 0), (50, 60, 0)) == pytest.approx(np.exp(-2 / (1 + 0.048 * chroma)), abs=1e-5)
    hue = 2 * 50 * np.sin(np.pi / 4)  # between colours of chroma 50, a quarter turn apart
    assert alike((50, 50, 0), (50, 0, 50)) == pytest.approx(np.exp(-hue / 10 / (1 + 0.014 * 50)), abs=1e-5)


@pytest.fixture(scope="module")
def crops() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Garment images: of the worn garments, cut out of their clips, and products that nobody wears here."""
    images = {}
    for name in worn.PARTS:
        clip = worn.prepared(name)
        GarmentCrop().process(clip)
        images[name] = clip.artifacts["garment"], clip.artifacts["garment_mask"]
    for name in ("00057_00", "00126_00", "051985_1", "051990_1"):
        mask = cv2.imread(str(shared(f"clips/vivid/cloth_mask/{name}.jpg")), cv2.IMREAD_GRAYSCALE) > 127
        images[name] = cv2.imread(str(shared(f"clips/vivid/cloth/{name}.jpg")))[..., ::-1].copy(), mask
    return images


@pytest.mark.parametrize("name", worn.PARTS)
def test_right_images_beat_all_others_on_real_clips(name: str, crops: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    clip = worn.prepared(name)
    clip.pair = clip.pair.model_copy(update={"garment": "garment.png"})
    assert len(frames(clip)) == clip.span.frames
    measured = {}
    for image, (pixels, mask) in crops.items():
        clip.artifacts["garment"], clip.artifacts["garment_mask"] = pixels, mask
        measured[image] = PairMatch().measure(clip)
    own = measured.pop(name)
    assert own["garment_colour_match"] > 0.75
    assert own["garment_pattern_match"] > 0.85
    assert max(other["garment_colour_match"] for other in measured.values()) < 0.5
    assert measured["00126_00"]["garment_pattern_match"] < 0.6  # a large print; both wear plain cloth
    if name == "upper1":  # cream: all others are darker by far
        assert all(PairMatch().decide(other) for other in measured.values())
