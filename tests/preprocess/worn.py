"""Clips of clothed people for these tests: real ones through the real stages, and a drawn one."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import av
import cv2
import numpy as np
import pytest

import weights
from media import normalise
from preprocess.mediapipe_body import MediaPipeBody
from preprocess.parsing import SelfieParsing
from schemas.body import Joint
from schemas.clip import Clip, Source, Span
from schemas.conditions import HAND_POINTS, POSE_POINTS, Hands, Label, PersonTrack, Pose
from schemas.errors import WeightsError
from schemas.manifest import Pair
from tests.clips import SAME_BYTES, shared

PARTS = {"lower1": "lower", "upper1": "upper"}
TRUTH_FRAMES = {"lower1": (0, 12, 22), "upper1": (0, 16, 40)}


def need_models() -> None:
    """Skip the test where a model file is absent."""
    for name in ("pose_landmarker_full", "hand_landmarker", "selfie_multiclass_256x256"):
        try:
            weights.path(name)
        except WeightsError as error:
            pytest.skip(str(error))


@lru_cache
def _prepared(name: str) -> Clip:
    encoded = normalise(shared(f"clips/vivid/videos/{name}.mp4"))
    clip = clip_of(encoded.video, encoded.span, part=PARTS[name])
    MediaPipeBody().process(clip)
    SelfieParsing().process(clip)
    return clip


def prepared(name: str) -> Clip:
    """A real clip, re-encoded as the pipeline does, with person, pose, hands and parsing. A copy: do as you like."""
    need_models()
    clip = _prepared(name)
    return Clip(key=clip.key, pair=clip.pair, source=clip.source, span=clip.span, artifacts=dict(clip.artifacts))


def truth(name: str, frame: int, what: str) -> np.ndarray:
    """(H, W) bool, `what` is "garment" or "hand"."""
    image = cv2.imread(str(shared(f"clips/truth/{name}_{frame:03d}_{what}.png")), cv2.IMREAD_GRAYSCALE)
    return image > 127


def clip_of(video: bytes, span: Span, *, part: str = "upper", garment: str | None = None) -> Clip:
    source = Source(
        url="test.mp4", container="mp4", codec="h264", pixel_format="yuv420p", width=span.width, height=span.height,
        frame_rate=span.fps, duration=span.seconds, size_bytes=len(video),
    )  # fmt: skip
    pair = Pair(pair_id="test", video="test.mp4", garment=garment, part=part)
    return Clip(key="test-00000000", pair=pair, source=source, span=span, artifacts={"video": video})


def encode(images: np.ndarray, *, part: str = "upper") -> Clip:
    """A clip of (T, H, W, 3) uint8 RGB pictures."""
    import io

    frames, height, width = images.shape[:3]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "10", **SAME_BYTES})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    span = Span(
        first_frame=0, last_frame=frames - 1, first_pts=0, last_pts=frames - 1, time_base=Fraction(1, 24),
        fps=Fraction(24), frames=frames, width=width, height=height, bytes=len(buffer.getvalue()),
    )  # fmt: skip
    return clip_of(buffer.getvalue(), span, part=part)


def no_person(frames: int) -> PersonTrack:
    return PersonTrack(np.zeros((frames, 4), np.float32), np.zeros(frames, np.float32), np.zeros(frames, np.uint8))


def no_pose(frames: int) -> Pose:
    return Pose(np.zeros((frames, POSE_POINTS, 2), np.float32), np.zeros((frames, POSE_POINTS), np.float16))


def no_hands(frames: int) -> Hands:
    return Hands(
        scores=np.zeros((frames, 2), np.float32),
        joints_2d=np.zeros((frames, 2, HAND_POINTS, 2), np.float32),
        joints_3d=np.zeros((frames, 2, HAND_POINTS, 3), np.float32),
        method="none",
    )


DRAWN = (320, 240)
"""Height and width of the drawn person."""
JOINTS = {
    Joint.NOSE: (120, 40), Joint.LEFT_SHOULDER: (150, 80), Joint.RIGHT_SHOULDER: (90, 80),
    Joint.LEFT_ELBOW: (165, 120), Joint.RIGHT_ELBOW: (75, 120), Joint.LEFT_WRIST: (135, 135),
    Joint.RIGHT_WRIST: (70, 155), Joint.LEFT_HIP: (138, 165), Joint.RIGHT_HIP: (102, 165),
    Joint.LEFT_KNEE: (140, 225), Joint.RIGHT_KNEE: (100, 225), Joint.LEFT_ANKLE: (140, 285),
    Joint.RIGHT_ANKLE: (100, 285), Joint.LEFT_BIG_TOE: (150, 298), Joint.RIGHT_BIG_TOE: (90, 298),
}  # fmt: skip
"""Where the drawn person's joints are, x y; the left hand lies on the belly."""


def drawn_pose(frames: int) -> Pose:
    pose = no_pose(frames)
    for joint, place in JOINTS.items():
        pose.keypoints[:, joint], pose.scores[:, joint] = place, 1
    return pose


def drawn_labels(frames: int) -> np.ndarray:
    """(T, 320, 240) uint8: shirt with short sleeves, trousers, head, arms, left hand on the belly."""
    image = np.zeros(DRAWN, np.uint8)
    cv2.rectangle(image, (84, 72), (156, 165), int(Label.UPPER_CLOTHES), -1)
    cv2.rectangle(image, (88, 160), (152, 285), int(Label.PANTS), -1)
    cv2.rectangle(image, (106, 56), (134, 76), int(Label.TORSO_SKIN), -1)
    cv2.circle(image, (120, 42), 22, int(Label.FACE), -1)
    for label, shoe, elbow, wrist, hand, foot in (
        (Label.LEFT_ARM, Label.LEFT_SHOE, (165, 120), (135, 135), (115, 140), (148, 295)),
        (Label.RIGHT_ARM, Label.RIGHT_SHOE, (75, 120), (70, 155), (68, 180), (92, 295)),
    ):
        cv2.line(image, elbow, wrist, int(label), 12)
        cv2.line(image, wrist, hand, int(label), 16)
        cv2.circle(image, foot, 10, int(shoe), -1)
    return np.repeat(image[None], frames, axis=0)
