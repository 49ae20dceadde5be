"""Does the pair check tell right garment images from wrong ones? What it says of all crossings of some clips.

    python -m benchmarks.pair_check VIDEO:PART:COLOUR ... [--cloth IMAGE:MASK:COLOUR ...]

Nobody gives product images of the garments worn in the clips at hand. A right image is therefore the garment cut out
of one frame, in another light: exposure, white balance and saturation changed at random, `--light 1` by up to ±0.7
stops, ±18 % red against blue, and ±25 %. It is compared with other frames. Wrong for colour are garments whose COLOUR,
a word of the caller's, differs, and the garment itself, if it is not grey, with its hue turned. For pattern, stripes,
checks and dots of random size and colour are printed on the garment image: wrong on plain garments.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import cv2
import numpy as np

from benchmarks.conditions import first_clip
from media import forget
from preprocess.mediapipe_body import MediaPipeBody
from preprocess.pair_check.cuts import Cut, cut_out, worn_cuts
from preprocess.pair_check.match import PairMatch
from preprocess.pair_check.statistics import colour_match, colours, pattern_match
from preprocess.parsing import SelfieParsing

FRAMES = 9
PRINTS = ("stripes across", "stripes down", "checks", "dots")
GREY = 15.0
"""Mean chroma in CIELAB below which a garment counts as grey: it has no hue to turn."""
BOUND = PairMatch.metrics["garment_colour_match"].default[0]


@dataclass(frozen=True)
class Garment:
    """One garment: what it is called, its colour in a word, and how it looks in some frames, or in its image."""

    name: str
    colour: str
    looks: list[Cut]


def worn_garment(described: str) -> Garment:
    """The garment worn in the first clip of `VIDEO:PART:COLOUR`."""
    video, part, colour = described.split(":")
    clip = first_clip(Path(video), part)
    for stage in (MediaPipeBody(), SelfieParsing()):
        stage.process(clip)
    looks = worn_cuts(clip, most=FRAMES)
    forget(clip)
    return Garment(f"{Path(video).stem} {part}", colour, looks)


def flat_garment(described: str) -> Garment:
    """The garment of `IMAGE:MASK:COLOUR`."""
    image, mask, colour = described.split(":")
    pixels = np.ascontiguousarray(cv2.imread(image)[..., ::-1])
    cut = cut_out(pixels, cv2.imread(mask, cv2.IMREAD_GRAYSCALE) > 127)
    return Garment(Path(image).stem, colour, [cut] if cut else [])


def relit(cut: Cut, light: float, rng: np.random.Generator) -> Cut:
    """The garment in another light, as of a camera with gamma 2.2."""
    linear = (cut.image / 255) ** 2.2
    warmth, saturation = 1 + rng.uniform(-0.18, 0.18) * light, 1 + rng.uniform(-0.25, 0.25) * light
    linear = linear * 2 ** (rng.uniform(-0.7, 0.7) * light) * [warmth, 1, 1 / warmth]
    encoded = linear.clip(0, 1) ** (1 / 2.2)
    grey = encoded.mean(-1, keepdims=True)
    return Cut((255 * (grey + (encoded - grey) * saturation).clip(0, 1)).round().astype(np.uint8), cut.mask)


def hue_turned(cut: Cut, degrees: int) -> Cut:
    """The garment dyed."""
    hsv = cv2.cvtColor(cut.image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(degrees * 256 // 360)
    return Cut(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8), cut.mask)


def printed(cut: Cut, kind: str, seed: int) -> Cut:
    """The garment with a print of 6 to 16 periods over its width, in a colour at random."""
    rng = np.random.default_rng(seed)
    period = cut.side / rng.uniform(6, 16)
    y, x = (np.sin(2 * np.pi * axis / period) for axis in np.mgrid[: cut.mask.shape[0], : cut.mask.shape[1]])
    shown = {"stripes across": y > 0, "stripes down": x > 0, "checks": (x > 0) ^ (y > 0), "dots": x * y > 0.5}[kind]
    opacity = 0.7 * shown[..., None]
    return Cut((cut.image * (1 - opacity) + rng.uniform(0, 255, 3) * opacity).astype(np.uint8), cut.mask)


def colour(one: Cut, worn: list[Cut]) -> float:
    tolerance = PairMatch().tolerance
    return float(np.median([colour_match(colours(one), colours(cut), tolerance=tolerance) for cut in worn]))


def pattern(one: Cut, worn: list[Cut]) -> float:
    return float(np.median([pattern_match(one, cut) for cut in worn]))


def row(name: str, scores: list[float], right: list[float], bound: float | None = None) -> None:
    spread = (f"{value:.2f}" for value in np.quantile(scores, (0, 0.05, 0.5, 0.95, 1)))
    above = "" if scores is right else f"{np.mean(np.array(right)[:, None] > np.array(scores)[None]):.3f}"
    dropped = "" if bound is None else f"{np.mean(np.array(scores) < bound):.0%}"
    cells = (name, len(scores), *spread, above, dropped)
    print("|", " | ".join(str(cell) for cell in cells), "|", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--cloth", nargs="*", default=[])
    parser.add_argument("--light", type=float, default=1.0)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    worn = [worn_garment(described) for described in options.videos]
    images = [(garment, relit(garment.looks[0], options.light, rng)) for garment in worn for _ in range(3)]
    images += [(garment, garment.looks[0]) for garment in map(flat_garment, options.cloth)]
    coloured = [garment for garment in worn if np.hypot(*colours(garment.looks[0])[:, 1:].T).mean() > GREY]
    turned = [(garment, hue_turned(garment.looks[0], degrees)) for garment in coloured for degrees in (60, 120, 180)]
    seeds = list(enumerate(product(worn, PRINTS)))
    fake = [(garment, printed(garment.looks[0], kind, seed)) for seed, (garment, kind) in seeds]
    same = [
        pattern(relit(printed(of.looks[0], kind, seed), options.light, rng), [printed(of.looks[-1], kind, seed)])
        for seed, (of, kind) in seeds
    ]

    print("\n| | pairs | lowest | 5 % | median | 95 % | highest | share of right ones above | dropped |")
    print("|---|---|---|---|---|---|---|---|---|")
    right = [colour(image, garment.looks[1:]) for garment, image in images if garment in worn]
    row("colour, right", right, right, BOUND)
    wrong = [colour(cut, other.looks[1:]) for of, cut in images for other in worn if of.colour != other.colour]
    row("colour, another colour", wrong, right, BOUND)
    if turned:
        row("colour, hue turned", [colour(cut, garment.looks[1:]) for garment, cut in turned], right, BOUND)
    right = [pattern(image, garment.looks[1:]) for garment, image in images if garment in worn]
    row("pattern, right", right, right)
    row("pattern, right, with a print", same, right)
    row("pattern, print on the image alone", [pattern(cut, garment.looks[1:]) for garment, cut in fake], right)
    if options.cloth:
        for garment, cut in images[-len(options.cloth) :]:
            row(f"pattern, {garment.name}", [pattern(cut, other.looks[1:]) for other in worn], right)
    started = time.perf_counter()
    colour(worn[0].looks[0], worn[0].looks[1:]), pattern(worn[0].looks[0], worn[0].looks[1:])
    print(f"\n{1000 * (time.perf_counter() - started) / (FRAMES - 1):.1f} ms a frame looked at")


if __name__ == "__main__":
    main()
