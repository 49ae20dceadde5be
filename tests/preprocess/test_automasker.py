"""AutoMasker and CatV2TON's smoothing: the public systems' bits, on their maps and on others."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.ndimage import uniform_filter, uniform_filter1d

from preprocess.automasker import as_atr, as_lip, automask, automask_steps, hulls
from preprocess.mask_smoothing import catv2ton_smooth, smooth_mask
from schemas.conditions import Label
from schemas.errors import ArtifactError
from schemas.manifest import Part
from tests.clips import shared

GOLDEN = "golden/hand_pose_mask/automask"
CASES = (
    "cross_dress_832", "cross_pants_512", "down_jumpsuit_512", "hip_coat_832", "hip_skirt_512", "vivid_lower1_f000",
    "vivid_lower1_f012", "vivid_upper1_f012",
)  # fmt: skip
THEIR_NAMES = {"overall": Part.DRESS, **{part.value: part for part in Part if part is not Part.DRESS}}
STEPS = {
    "hands_feet_dilated": "hands_feet", "hull_in": "area", "hull_out": "hull", "blur_in": "trimmed",
    "before_last_dilate": "repainted",
}  # fmt: skip


def maps(case: str) -> tuple[np.ndarray, ...]:
    files = (shared(f"{GOLDEN}/{case}_{kind}.png") for kind in ("densepose", "lip", "atr"))
    return tuple(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("theirs", THEIR_NAMES)
def test_masks_are_theirs_to_the_bit(case: str, theirs: str) -> None:
    inputs, golden = maps(case), np.load(shared(f"{GOLDEN}/{case}.npz"))
    for system, protect_again in (("catvton", False), ("catv2ton", False), ("catv2ton_lrp", True)):
        want = np.unpackbits(golden[f"{system}_{theirs}"], axis=1)[:, : inputs[0].shape[1]]
        got = automask(*inputs, THEIR_NAMES[theirs], protect_again=protect_again)
        assert np.count_nonzero(got != want) == 0, system


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("part", ["upper", "lower"])
def test_every_step_is_theirs_to_the_bit(case: str, part: str) -> None:
    inputs, golden = maps(case), np.load(shared(f"{GOLDEN}/{case}.npz"))
    steps = automask_steps(*inputs, Part(part))
    for theirs, ours in STEPS.items():
        want = np.unpackbits(golden[f"stage_{part}_{theirs}"], axis=1)[:, : inputs[0].shape[1]]
        assert np.array_equal(getattr(steps, ours), want), theirs
    assert np.array_equal(steps.dense_quarter, golden[f"stage_{part}_dense_quarter_dilated"])
    assert np.array_equal(steps.soft, golden[f"stage_{part}_blur_out"])


def test_smoothing_is_theirs_to_the_bit() -> None:
    golden = np.load(shared(f"{GOLDEN}/smooth_video.npz"))
    mask, want = (np.unpackbits(golden[key], axis=2, count=golden["shape_thw"][2]).view(bool) for key in ("inp", "out"))
    assert np.array_equal(catv2ton_smooth(mask), want)


@pytest.mark.parametrize(("frames", "side", "length"), [(12, 15, 7), (1, 15, 7), (2, 3, 7), (9, 17, 1), (7, 41, 25)])
def test_smoothing_is_the_mean_over_space_and_time(frames: int, side: int, length: int) -> None:
    mask = blobs(frames * 48, 56, seed=frames).reshape(frames, 48, 56)
    for beyond, mode in (("nothing", "constant"), ("edge", "nearest")):
        mean = uniform_filter(mask.astype(float), (1, side, side), mode=mode)
        want = uniform_filter1d(mean, length, axis=0, mode=mode) > 0.5
        assert np.array_equal(smooth_mask(mask, side=side, frames=length, beyond=beyond), want), beyond


def blobs(height: int, width: int, *, seed: int, share: float = 0.5) -> np.ndarray:
    """(height, width) bool, about so much of it true."""
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.asarray(smooth > np.quantile(smooth, 1 - share))


def opencv_4_fill(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What OpenCV 4.10 fills of a convex outline (N, 2), pixel by pixel: its lines, and between its edges."""
    canvas = np.zeros(shape, np.uint8)
    cv2.polylines(canvas, [outline], isClosed=True, color=1)
    for row in range(shape[0]):
        columns = list(np.flatnonzero(canvas[row]))
        for one, other in zip(outline.tolist(), np.roll(outline, -1, axis=0).tolist(), strict=True):
            (x, y), (end_x, end_y) = sorted((one, other), key=lambda point: point[1])
            if y <= row < end_y:
                slope = int((end_x - x) * 65536 / (end_y - y))  # towards 0
                columns.append((x * 65536 + slope * (row - y) + 32768) // 65536)
        if columns:
            canvas[row, min(columns) : max(columns) + 1] = 1
    return canvas.view(bool)


@pytest.mark.parametrize("seed", range(8))
def test_hulls_are_filled_alike_by_all_versions_of_opencv(seed: int) -> None:
    mask = blobs(96, 72, seed=seed, share=(seed + 1) / 40)
    want = np.zeros_like(mask)
    for contour in cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        want |= opencv_4_fill(cv2.convexHull(contour)[:, 0], mask.shape)
    assert np.array_equal(hulls(mask), want)


def test_a_hull_known_from_opencv_4() -> None:
    corners = np.zeros((6, 6), bool)
    cv2.fillConvexPoly(corners.view(np.uint8), np.array([[4, 0], [2, 4], [0, 4], [0, 0]]), 1)
    filled = hulls(corners)
    assert filled[1, 4]  # 4.10 fills these, 5.0 does not
    assert filled[3, 3]
    assert not hulls(np.zeros((6, 6), bool)).any()
    dot = np.zeros((6, 6), bool)
    dot[5, 0] = True
    assert np.array_equal(hulls(dot), dot)


@pytest.mark.parametrize("shape", [(64, 48), (61, 47), (4, 4), (1, 3)])
@pytest.mark.parametrize("part", [*Part])
def test_any_size_and_nobody(shape: tuple[int, int], part: Part) -> None:
    nothing = np.zeros(shape, np.uint8)
    assert not automask(nothing, nothing, nothing, part).any()
    anything = np.random.default_rng(0).integers(0, 18, shape).astype(np.uint8)
    mask = automask(anything, anything, anything, part, protect_again=True)
    assert (mask.shape, mask.dtype) == (shape, bool)


def test_wrong_maps_are_named() -> None:
    good = np.zeros((8, 8), np.uint8)
    with pytest.raises(ArtifactError, match=r"atr has shape \(8, 4\)"):
        automask(good, good, good[:, :4], Part.UPPER)
    with pytest.raises(ArtifactError, match="lip has dtype int64"):
        automask(good, good.astype(int), good, Part.UPPER)
    with pytest.raises(ArtifactError, match="atr holds 18"):
        automask(good, good, good + np.uint8(18), Part.UPPER)
    with pytest.raises(ArtifactError, match="densepose has shape"):
        automask(np.zeros((2, 8, 8), np.uint8), good, good, Part.UPPER)


def test_our_labels_become_theirs() -> None:
    ours = np.array([[*Label]], np.uint8)
    assert as_lip(ours)[0, :20].tolist() == list(range(20))
    assert as_lip(ours)[0, 20:].tolist() == [0, 0, 0, 0]
    names = {label: int(index) for label, index in zip(Label, as_atr(ours)[0], strict=True) if index}
    assert names[Label.UPPER_CLOTHES] == 4
    assert (names[Label.RIGHT_LEG], names[Label.LEFT_ARM], names[Label.SCARF]) == (13, 14, 17)
    assert names[Label.OTHER] == names[Label.BAG] == 16
    assert not {Label.COAT, Label.JUMPSUITS, Label.SOCKS, Label.GLOVE, Label.TORSO_SKIN} & set(names)


def test_coat_is_kept_over_the_inner_garment() -> None:
    labels = np.zeros((80, 60), np.uint8)
    labels[10:70, 10:50] = Label.COAT
    labels[10:70, 26:34] = Label.UPPER_CLOTHES
    mask = automask(np.zeros_like(labels), as_lip(labels), as_atr(labels), Part.INNER)
    assert mask[labels == Label.UPPER_CLOTHES].all()
    assert not mask[:, 12:20].any()
