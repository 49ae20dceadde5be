"""Agnostic masks on one thread, against a plain version of AutoMasker and CatV2TON's smoothing in the same run.

    python -m benchmarks.agnostic --frames 48 --repeats 5

A person drawn in 624 × 832 waves an arm. The plain version asks for each class of the maps by itself, as AutoMasker
does, and takes its means over space and time with scipy, in floats. Both take turns, so that other load on the machine
hits both; medians of processor time are reported.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter, uniform_filter1d

from benchmarks.ingest import spent_by
from preprocess.agnostic import AgnosticMask
from preprocess.automasker import ATR, DENSE_PARTS, LIP, as_atr, as_lip, hulls
from preprocess.mask_smoothing import catv2ton_smooth
from schemas.body import Joint
from schemas.clip import Clip, Source, Span
from schemas.conditions import HAND_POINTS, POSE_POINTS, Hands, Label, Pose
from schemas.manifest import Pair, Part
from schemas.outfit import GARMENT_LABELS

WIDTH, HEIGHT = 624, 832
PART = Part.UPPER
KEPT = (
    Label.HAIR, Label.HAT, Label.GLOVE, Label.SUNGLASSES, Label.BAG, Label.LEFT_SHOE, Label.RIGHT_SHOE, Label.SCARF,
    Label.SOCKS, Label.LEFT_LEG, Label.RIGHT_LEG, Label.SKIRT, Label.PANTS,
)  # fmt: skip
"""What AutoMasker keeps with an upper garment."""

Mask = NDArray[np.bool_]
UInt8 = NDArray[np.uint8]
Point = tuple[int, int]


def places(angle: float) -> dict[Joint, Point]:
    """Joints of somebody whose left forearm points that way."""
    elbow = np.array([410, 300])
    wrist = elbow + 100 * np.array([np.cos(angle), np.sin(angle)])
    return {
        Joint.NOSE: (312, 105), Joint.LEFT_SHOULDER: (382, 200), Joint.RIGHT_SHOULDER: (242, 200),
        Joint.LEFT_ELBOW: (410, 300), Joint.RIGHT_ELBOW: (214, 300),
        Joint.LEFT_WRIST: (round(wrist[0]), round(wrist[1])), Joint.RIGHT_WRIST: (205, 390),
        Joint.LEFT_HIP: (360, 410), Joint.RIGHT_HIP: (264, 410), Joint.LEFT_KNEE: (366, 560),
        Joint.RIGHT_KNEE: (258, 560), Joint.LEFT_ANKLE: (366, 720), Joint.RIGHT_ANKLE: (258, 720),
    }  # fmt: skip


def drawn(joints: dict[Joint, Point]) -> tuple[UInt8, UInt8]:
    """(H, W) labels of parsing, and (H, W) index I of DensePose."""
    labels, dense = np.zeros((HEIGHT, WIDTH), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)

    def limb(start: Point, end: Point, width: int, label: Label, part: int) -> None:
        cv2.line(labels, start, end, int(label), width)
        cv2.line(dense, start, end, part, width - 8)

    torso = [joints[joint] for joint in (Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.RIGHT_HIP, Joint.LEFT_HIP)]
    cv2.circle(labels, (312, 95), 62, int(Label.HAIR), -1)
    for picture, value in ((labels, int(Label.FACE)), (dense, 23)):
        cv2.circle(picture, joints[Joint.NOSE], 48, value, -1)
    sides = (
        (Joint.LEFT_HIP, Joint.LEFT_KNEE, Joint.LEFT_ANKLE, 10, 14),
        (Joint.RIGHT_HIP, Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE, 9, 13),
    )
    for hip, knee, ankle, thigh, shin in sides:
        limb(joints[hip], joints[knee], 92, Label.PANTS, thigh)
        limb(joints[knee], joints[ankle], 64, Label.PANTS, shin)
    for picture, value in ((labels, int(Label.UPPER_CLOTHES)), (dense, 2)):
        cv2.fillConvexPoly(picture, np.array(torso), value)
    limb(torso[0], torso[1], 40, Label.UPPER_CLOTHES, 2)
    arms = (
        (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST, Label.LEFT_ARM, (15, 19, 4)),
        (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST, Label.RIGHT_ARM, (16, 20, 3)),
    )
    for shoulder, elbow, wrist, arm, (upper, fore, hand) in arms:
        limb(joints[shoulder], joints[elbow], 52, Label.UPPER_CLOTHES, upper)
        limb(joints[elbow], joints[wrist], 40, arm, fore)
        limb(joints[wrist], joints[wrist], 56, arm, hand)
    return labels, dense


def drawn_clip(frames: int) -> Clip:
    """A clip with what the mask needs; nobody looks at its pictures."""
    pose = Pose(np.zeros((frames, POSE_POINTS, 2), np.float32), np.zeros((frames, POSE_POINTS), np.float16))
    maps = []
    for frame in range(frames):
        joints = places(np.pi / 2 + np.sin(frame / 6))
        for joint, place in joints.items():
            pose.keypoints[frame, joint], pose.scores[frame, joint] = place, 1
        maps.append(drawn(joints))
    parsing, densepose = (np.stack(pictures) for pictures in zip(*maps, strict=True))
    no_hands = np.zeros((frames, 2, HAND_POINTS, 3), np.float32)
    source = Source(
        url="drawn", container="", codec="", pixel_format="", width=WIDTH, height=HEIGHT, frame_rate=Fraction(24),
        duration=None, size_bytes=None,
    )  # fmt: skip
    span = Span(
        first_frame=0, last_frame=frames - 1, first_pts=0, last_pts=frames - 1, time_base=Fraction(1, 24),
        fps=Fraction(24), frames=frames, width=WIDTH, height=HEIGHT, bytes=0,
    )  # fmt: skip
    artifacts = {
        "parsing": parsing, "densepose": densepose, "pose": pose,
        "hands": Hands(np.zeros((frames, 2), np.float32), no_hands[..., :2].copy(), no_hands, "none"),
    }  # fmt: skip
    pair = Pair(pair_id="drawn", video="drawn.mp4", garment=None, part=PART)
    return Clip(key="drawn-00000000", pair=pair, source=source, span=span, artifacts=artifacts)


def plain_mask(densepose: UInt8, lip: UInt8, atr: UInt8) -> Mask:
    """(H, W) bool: AutoMasker with CatV2TON's low-resolution option, step by step."""
    side, broad = 3, 33  # px, at this size

    def either(wanted: tuple[Label, ...]) -> Mask:
        found = np.zeros(lip.shape, bool)
        for labels, space in ((lip, LIP), (atr, ATR)):
            for label in set(wanted) & set(space):
                found |= labels == space.index(label)
        return found

    def grown(mask: Mask, times: int = 1) -> Mask:
        return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8), iterations=times) > 0

    hands_feet = grown(np.isin(densepose, (3, 4, 5, 6)))
    strong = hands_feet & either((Label.LEFT_ARM, Label.RIGHT_ARM, Label.LEFT_LEG, Label.RIGHT_LEG))
    strong |= lip == Label.FACE
    weak = strong | either(KEPT)
    body = np.isin(densepose[::4, ::4], DENSE_PARTS[PART])
    area = (~weak & ~((lip == 0) & (atr == 0))) | grown(body, 2).repeat(4, 0).repeat(4, 1)
    soft = cv2.GaussianBlur((hulls(area) & ~weak).astype(np.uint8) * np.uint8(255), (broad, broad), 0) >= 25
    garment = either(GARMENT_LABELS[PART])
    return (grown((soft | garment) & ~strong) | garment) & ~strong


def plain_smoothing(mask: Mask) -> Mask:
    """(T, H, W) bool: mean over 15 × 15 px, then over 7 frames, zeros beyond, more than a half."""
    mean = uniform_filter(mask.astype(np.float32), (1, 15, 15), mode="constant")
    return np.asarray(uniform_filter1d(mean, 7, axis=0, mode="constant") > 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    clip = drawn_clip(options.frames)
    densepose = clip.artifacts["densepose"]
    lip, atr = (np.stack([named(labels) for labels in clip.artifacts["parsing"]]) for named in (as_lip, as_atr))
    rough = np.stack([plain_mask(*maps) for maps in zip(densepose, lip, atr, strict=True)])
    ours, catvton, catv2ton = (AgnosticMask(method=method) for method in ("ours", "catvton", "catv2ton"))
    works: dict[str, Callable[[], object]] = {
        "plain masks": lambda: [plain_mask(*maps) for maps in zip(densepose, lip, atr, strict=True)],
        "plain smoothing": lambda: plain_smoothing(rough),
        "smoothing": lambda: catv2ton_smooth(rough),
        "catvton": lambda: catvton.process(clip),
        "catv2ton (smoothed)": lambda: catv2ton.process(clip),
        "ours (smoothed)": lambda: ours.process(clip),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.repeats):
        for name, work in works.items():
            times[name].append(1000 * spent_by(work).cpu / options.frames)
    catv2ton.process(clip)
    differing = np.count_nonzero(clip.artifacts["agnostic_mask"] != plain_smoothing(rough))
    median = {name: statistics.median(values) for name, values in times.items()}
    plain = median["plain masks"] + median["plain smoothing"]
    floors = {"smoothing": median["plain smoothing"], "catvton": median["plain masks"]}
    print(
        f"\n{options.frames} frames, {WIDTH}x{HEIGHT}, one thread; {differing} pixels of catv2ton differ from plain\n"
    )
    print("| | CPU, ms a frame | plain, ms | plain / this |\n|---|---|---|---|")
    for name in list(works)[2:]:
        floor = floors.get(name, plain)
        print(f"| {name} | {median[name]:.1f} | {floor:.1f} | {floor / median[name]:.1f} |")


if __name__ == "__main__":
    main()
