"""Copies of real footage and moments of one scene; searches over signatures that crowd, miss or lie apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from curation.duplicates.footage import Footage
from curation.duplicates.search import AGREE_HASHES, MOST_CANDIDATES, Matches, find_matches
from curation.duplicates.signature import (
    MIRROR,
    Duplicates,
    decode_signature,
    encode_signature,
    signature_of,
)
from media import forget
from schemas.clip import Clip
from tests.clips import clip_from, shared
from tests.curation.degrade import from_pictures, pictures_of, scene
from tests.curation.reels import ffmpeg

Hashes = NDArray[np.uint64]

LOGO = "drawbox=x=iw*0.72:y=ih*0.04:w=iw*0.22:h=ih*0.08:color=white:t=fill"
COPIES = {
    "coarse": ("null", "38"),
    "smaller": ("scale=-2:180", "26"),
    "other rate": ("fps=15", "23"),
    "logo": (LOGO, "23"),
    "cropped": ("crop=iw*0.95:ih*0.95", "23"),
    "letterboxed": ("pad=iw:ih*1.25:0:(oh-ih)/2", "23"),
    "squeezed": ("scale=iw*0.8:ih", "23"),
    "mirrored": ("hflip", "23"),
    "graded": ("eq=brightness=0.08:contrast=1.15:gamma=0.9", "23"),
    "all at once": (f"hflip,crop=iw*0.96:ih*0.96,fps=25,{LOGO}", "32"),
}


def taken(file: Path) -> Hashes:
    """Signature of a video file, as the stage takes it."""
    clip = clip_from(file, pair_id="clip")
    forget(clip)  # of another test
    Duplicates().process(clip)
    return decode_signature(clip.signature)


def span(source: Path, target: Path, *, start: float, filters: str = "null", crf: str = "20") -> Path:
    """4 s of a recording, small, re-encoded."""
    even = "scale=trunc(iw/2)*2:trunc(ih/2)*2,setsar=1"
    picture = f"scale=-2:360,{filters},{even}"
    ffmpeg(
        "-ss", str(start), "-i", source, "-t", "4", "-an", "-vf", picture, "-crf", crf, "-preset", "veryfast", target
    )
    return target


def matches_of(*signatures: Hashes) -> Matches:
    starts = np.cumsum([0, *map(len, signatures)])
    return find_matches(np.concatenate([np.zeros(0, np.uint64), *signatures]), starts)


def pairs_of(matches: Matches) -> set[tuple[int, int]]:
    return set(zip(matches.first.tolist(), matches.second.tolist(), strict=True))


@pytest.fixture(scope="module")
def dancer(tmp_path_factory: pytest.TempPathFactory) -> Hashes:
    return taken(span(shared("clips/dance_man.mp4"), tmp_path_factory.mktemp("dancer") / "0.mp4", start=0.0))


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_cut_elsewhere_is_found(dancer: Hashes, tmp_path: Path, copy: str) -> None:
    filters, crf = COPIES[copy]
    later = taken(span(shared("clips/dance_man.mp4"), tmp_path / "copy.mp4", start=0.7, filters=filters, crf=crf))
    found = matches_of(dancer, later)
    assert pairs_of(found) == {(0, 1)}
    assert abs(found.lag[0] * 0.2 - 0.7) <= 0.3
    assert found.end[0] - found.begin[0] >= 0.75 * len(later)


def test_other_moments_of_one_scene_are_no_copies(dancer: Hashes, tmp_path: Path) -> None:
    man, woman = shared("clips/dance_man.mp4"), shared("clips/dance_woman.mp4")
    others = [taken(span(man, tmp_path / f"man{start}.mp4", start=start)) for start in (4.0, 8.0)]
    others += [taken(span(woman, tmp_path / f"woman{start}.mp4", start=start)) for start in (0.0, 4.0, 8.0)]
    assert all(np.count_nonzero(signature) >= AGREE_HASHES for signature in (dancer, *others)), "all can be compared"
    assert not len(matches_of(dancer, *others))


def test_one_changed_frame_changes_little(tmp_path: Path) -> None:
    pictures = scene(100, step=3.0)
    damaged = pictures.copy()
    damaged[40] = np.random.default_rng(5).integers(0, 255, damaged[40].shape, np.uint8)
    plain = taken(_file(pictures, tmp_path / "plain.mp4"))
    assert pairs_of(matches_of(plain, taken(_file(damaged, tmp_path / "damaged.mp4")))) == {(0, 1)}


def _file(pictures: NDArray[np.uint8], target: Path) -> Path:
    from_pictures(pictures, target)
    return target


@pytest.mark.parametrize("level", [0, 90, 255])
def test_what_stands_still_has_no_signature(tmp_path: Path, level: int) -> None:
    random = np.random.default_rng(level)
    wall = np.repeat(random.integers(level // 2, level + 1, (1, 120, 160, 3)).astype(np.uint8), 75, axis=0)
    clip = from_pictures(wall, tmp_path / "still.mp4", crf=30)
    Duplicates().process(clip)
    hashes = decode_signature(clip.signature)
    assert len(hashes) == 11  # of 3 s, each 0.2 s, half a second off both ends
    assert not hashes.any()


def test_a_picture_of_bars_only_has_no_signature(tmp_path: Path) -> None:
    bars = np.zeros((75, 120, 160, 3), np.uint8)
    bars[:, 60:] = 200
    assert not taken(_file(bars, tmp_path / "bars.mp4")).any()


def test_a_scene_that_only_brightens_has_no_signature(tmp_path: Path) -> None:
    brightness = np.linspace(0.5, 1.0, 75)[:, None, None, None]
    assert not taken(_file((scene(1) * brightness).astype(np.uint8), tmp_path / "dawn.mp4")).any()


def test_clips_too_short_for_a_hash_have_none(tmp_path: Path) -> None:
    clip = from_pictures(scene(20), tmp_path / "short.mp4")
    Duplicates().process(clip)
    assert clip.signature == ""
    assert len(signature_of(pictures_of(clip)[:1, :, :, 0], np.zeros(1), seconds=3.0)) == 11


def test_a_signature_is_text_and_back() -> None:
    hashes = np.array([0, 1, 2**64 - 1], np.uint64)
    assert np.array_equal(decode_signature(encode_signature(hashes)), hashes)


def random_signatures(count: int, length: int = 20, *, seed: int = 0) -> list[Hashes]:
    random = np.random.default_rng(seed)
    return list(random.integers(1, 2**64, (count, length), np.uint64, endpoint=False))


def noisy(hashes: Hashes, *, bits: int, seed: int = 0) -> Hashes:
    """`hashes` with so many bits of each inverted."""
    random = np.random.default_rng(seed)
    flips = random.random((len(hashes), 64)).argsort(axis=1)[:, :bits].astype(np.uint64)
    return hashes ^ np.bitwise_or.reduce(np.uint64(1) << flips, axis=1)


def test_nothing_is_found_in_nothing() -> None:
    assert not len(matches_of())
    assert not len(matches_of(np.zeros(0, np.uint64), np.zeros(0, np.uint64)))
    assert not len(matches_of(np.zeros(30, np.uint64), np.zeros(30, np.uint64)))
    assert not len(matches_of(*random_signatures(500)))


def test_noisy_shifted_and_mirrored_copies_are_found_among_others() -> None:
    others = random_signatures(3000)
    original = others[7]
    copies = [noisy(original, bits=7), noisy(original[3:], bits=7), noisy(original ^ MIRROR, bits=7)]
    assert pairs_of(matches_of(*others, *copies)) >= {(7, 3000), (7, 3001), (7, 3002)}
    found = matches_of(original, copies[1])
    assert (found.lag[0], found.begin[0], found.end[0]) == (3, 0, 17)


def test_too_little_in_common_is_nothing() -> None:
    one, two = random_signatures(2)
    two[: AGREE_HASHES - 1] = one[-AGREE_HASHES + 1 :]
    assert not len(matches_of(one, two))
    for half in (slice(None, None, 2), slice(1, None, 2)):  # they agree now and then, and else do not
        mixed = random_signatures(1, seed=9)[0]
        mixed[half] = one[half]
        assert not len(matches_of(one, mixed))


def test_a_moment_that_thousands_share_neither_floods_nor_hides() -> None:
    crowd = random_signatures(2000)
    for signature in crowd:
        signature[5] = crowd[0][5]  # a channel's animated logo
    crowd[1500] = crowd[300].copy()
    assert pairs_of(matches_of(*crowd)) == {(300, 1500)}


def test_a_clip_run_thousands_of_times_is_held_against_the_first() -> None:
    advertisement = random_signatures(1)[0]
    found = matches_of(*(noisy(advertisement, bits=4, seed=seed) for seed in range(800)))
    assert {second for first, second in pairs_of(found) if first == 0} == set(range(1, 800))
    assert len(found) <= 800 * MOST_CANDIDATES


def clip_of(signature: Hashes, name: str, *, width: int = 640, size: int = 1000, part: str = "upper") -> Clip:
    clip = next(_records())
    clip.key, clip.pair = f"{name}-00000000", clip.pair.model_copy(update={"pair_id": name, "part": part})
    clip.span = type(clip.span)(**{**vars(clip.span), "width": width, "bytes": size})
    clip.signature = encode_signature(signature)
    return clip


def _records() -> Iterator[Clip]:
    while True:
        yield clip_from(shared("clips/vivid/videos/lower1.mp4"), pair_id="x")


def compared(*clips: Clip, bound: float = 0.5) -> dict[str, tuple[float, str]]:
    """Pair id → share, and pair id of the best copy, of the clips that have something in common with a better one."""
    footage = Footage()
    for clip in clips:
        footage.add(clip)
    copies = footage.compare(lambda share: share > bound).copies
    return {key[:-9]: (round(copy.share, 2), copy.best[:-9]) for key, copy in copies.items()}


def test_the_best_copy_has_most_pixels_then_most_bytes_whatever_the_order() -> None:
    (footage,) = random_signatures(1)
    clips = [
        clip_of(footage, "small", width=320, size=9000),
        clip_of(footage, "coarse", size=500),
        clip_of(footage, "best", size=2000),
    ]
    expected = {"small": (1.0, "best"), "coarse": (1.0, "best")}
    assert compared(*clips) == expected
    assert compared(*reversed(clips)) == expected
    assert compared(clips[2], clips[0], clips[1]) == expected


def test_pieces_cut_elsewhere_are_covered_by_several_better_ones() -> None:
    (footage,) = random_signatures(1, 40)
    first, second = clip_of(footage[:20], "first", size=9), clip_of(footage[20:], "second", size=8)
    across = clip_of(footage[10:32], "across", size=7)
    assert compared(first, second, across) == {"across": (1.0, "second")}


def test_a_long_clip_outlives_a_better_piece_of_it() -> None:
    (footage,) = random_signatures(1, 40)
    assert compared(clip_of(footage[:10], "piece", width=1280), clip_of(footage, "long")) == {"long": (0.25, "piece")}


def test_what_a_dropped_clip_shows_counts_for_nothing() -> None:
    (footage,) = random_signatures(1, 40)
    best, middle, last = footage[:20], footage[8:28], footage[16:36]
    found = compared(clip_of(best, "best", size=9), clip_of(middle, "middle", size=8), clip_of(last, "last", size=7))
    assert found == {"middle": (0.6, "best")}, "`last` has 4 hashes of the best one, too few, and 12 of a dropped one"


def test_another_part_of_the_body_is_another_sample_and_is_linked() -> None:
    (footage,) = random_signatures(1)
    clips = [clip_of(footage, "jacket"), clip_of(footage, "trousers", part="lower"), clip_of(footage[:9], "piece")]
    footage_of_all = Footage()
    for clip in clips:
        footage_of_all.add(clip)
    shared_by_all = footage_of_all.compare(lambda share: False)
    assert set(shared_by_all.copies) == {"piece-00000000"}
    assert shared_by_all.links >= {("jacket", "trousers"), ("jacket", "piece")}
