"""Pictures of both hands, every way there is to make one, against the slowest of the same run.

    python -m benchmarks.hand_prior

gl, cpu: two meshes of MANO's size before HaMeR's camera. joints: the stand-in that the loader draws. stored: what the
loader does where meshes were rendered at build time, unpack and colour.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from media import draw
from schemas.artifacts import ARTIFACTS
from schemas.errors import VvtError
from tests.media.meshes import glove

SIZES = ((832, 624), (512, 384))
HANDS = (50, 200)
"""Lengths of a hand in px of the height 832: of a whole person, and close up."""
LENGTH, APART = 0.18, 0.12
"""Of a hand, and of each hand from the middle, in metres."""
FRAMES = 24


def best(work: Callable[[], object], *, repeats: int) -> float:
    """Least ms that a call of `work` took, after a first one that is not counted."""
    work()
    spent = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return 1000 * min(spent)


def spread_hand() -> np.ndarray:
    """21 joints (21, 3) in metres, fingers up."""
    joints = np.zeros((21, 3), np.float32)
    for finger in range(5):
        for joint in range(4):
            joints[1 + 4 * finger + joint] = 0.02 * (finger - 2), -LENGTH * (0.5 + joint / 6), 0
    return joints


def milliseconds(height: int, width: int, hand: float, *, repeats: int) -> dict[str, float]:
    """Each way's ms a picture."""
    focal = 5000 / 256 * max(height, width)
    camera = {"height": height, "width": width, "focal": focal}
    distance = focal * LENGTH / hand
    meshes = [glove(at=(side * APART, 0, distance), size=LENGTH / 2) for side in (-1, 1)]
    joints = np.stack([spread_hand()] * 2)
    seen = joints[..., :2] * hand / LENGTH + [(width / 2, height / 2)]
    seen[:, :, 0] += np.array([[-1], [1]]) * APART * hand / LENGTH
    shade = np.stack([draw.render_meshes(meshes, **camera, renderer="cpu")] * FRAMES)
    prior = ARTIFACTS["hand_prior"]
    packed = prior.encode(shade)

    spent = {
        "cpu": best(lambda: draw.render_meshes(meshes, **camera, renderer="cpu"), repeats=repeats),
        "joints": best(
            lambda: draw.hand_picture(seen, joints, np.ones(2), height=height, width=width), repeats=repeats
        ),
        "stored": best(lambda: draw.hand_colours(prior.decode(packed)), repeats=-(-repeats // FRAMES)) / FRAMES,
    }
    try:
        spent["gl"] = best(lambda: draw.render_meshes(meshes, **camera, renderer="gl"), repeats=repeats)
    except VvtError as error:
        print(f"no gl: {error}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=100)
    options = parser.parse_args()
    print(f"auto renders by {draw.renderer_name('auto')}\n")
    print("| picture | hand, px | way | ms a picture | times as fast as the slowest |")
    print("|---|---|---|---|---|")
    for height, width in SIZES:
        for hand in HANDS:
            scaled = hand * height / SIZES[0][0]
            spent = milliseconds(height, width, scaled, repeats=options.repeats)
            for way, each in sorted(spent.items()):
                times = max(spent.values()) / each
                print(f"| {width}×{height} | {scaled:.0f} | {way} | {each:.2f} | {times:.1f} |", flush=True)


if __name__ == "__main__":
    main()
