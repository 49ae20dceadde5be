"""MediaPipe Tasks behind two small classes: one frame in, numpy arrays out.

MediaPipe: https://ai.google.dev/edge/mediapipe (Apache-2.0). Pose: Bazarevsky et al., BlazePose, 2020. Hands: Zhang
et al., MediaPipe Hands, 2020.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import weights
from schemas.errors import MissingExtraError

BODY_MODEL = "pose_landmarker_full"
HAND_MODEL = "hand_landmarker"
BODY_LANDMARKS = 33


@dataclass(frozen=True, eq=False)
class Body:
    """One body in one image.

    Attributes:
        points: (33, 2) float64, x y in px of the image; may lie outside it.
        visibility: (33,) float64 in 0..1, that the point is in the image and nothing hides it.
        world: (33, 3) float64 in metres, x right, y down, z away from the camera, origin between the hips.

    """

    points: NDArray[np.float64]
    visibility: NDArray[np.float64]
    world: NDArray[np.float64]

    def shifted(self, x: float, y: float) -> Body:
        """The same body in a picture of which this one is the part from (x, y) on."""
        return Body(points=self.points + np.array([x, y]), visibility=self.visibility, world=self.world)


@dataclass(frozen=True, eq=False)
class Hand:
    """One hand in one image.

    Attributes:
        score: 0..1, how sure the model is of the side, which falls where it sees no real hand.
        is_right: whether it looks like the person's right hand (of an unmirrored picture).
        joints: (21, 2) float64, x y in px of the image.
        world: (21, 3) float64 in metres, x right, y down, z away from the camera, origin at the hand's centre.

    """

    score: float
    is_right: bool
    joints: NDArray[np.float64]
    world: NDArray[np.float64]


class BodyModel:
    """MediaPipe's pose landmarker.

    With `video`, images must be neighbouring frames of one clip: a body once found is followed without being
    detected again, which also finds bodies that the detector, trained on heads and shoulders, would miss. State is
    kept between calls, so make a new model for each clip and direction.
    """

    def __init__(self, *, most: int = 1, video: bool = False, confidence: float = 0.5) -> None:
        vision = _vision("Pose")
        self._calls = 0
        self._video = video
        self._model = vision.PoseLandmarker.create_from_options(
            vision.PoseLandmarkerOptions(
                base_options=_base_options(BODY_MODEL),
                running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
                num_poses=most,
                min_pose_detection_confidence=confidence,
                min_pose_presence_confidence=confidence,
                min_tracking_confidence=confidence,
            )
        )

    def __call__(self, image: NDArray[np.uint8]) -> list[Body]:
        """Bodies in an (H, W, 3) uint8 RGB image."""
        if self._video:
            self._calls += 1
            found = self._model.detect_for_video(_image(image), self._calls * 33)  # ms; only has to grow
        else:
            found = self._model.detect(_image(image))
        return [
            Body(
                points=_pixels(points, image),
                visibility=np.array([point.visibility for point in points], float),
                world=_metres(world),
            )
            for points, world in zip(found.pose_landmarks, found.pose_world_landmarks, strict=True)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()  # frees its memory and threads


class HandModel:
    """MediaPipe's hand landmarker on single images; keeps no state."""

    def __init__(self, *, most: int = 2, confidence: float = 0.5) -> None:
        vision = _vision("Hands")
        self._model = vision.HandLandmarker.create_from_options(
            vision.HandLandmarkerOptions(
                base_options=_base_options(HAND_MODEL),
                num_hands=most,
                min_hand_detection_confidence=confidence,
                min_hand_presence_confidence=confidence,
            )
        )

    def __call__(self, image: NDArray[np.uint8]) -> list[Hand]:
        """Hands in an (H, W, 3) uint8 RGB image."""
        found = self._model.detect(_image(image))
        return [
            Hand(
                score=float(side[0].score),
                is_right=side[0].category_name == "Right",
                joints=_pixels(joints, image),
                world=_metres(world),
            )
            for side, joints, world in zip(
                found.handedness, found.hand_landmarks, found.hand_world_landmarks, strict=True
            )
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._model.close()  # frees its memory and threads


def _mediapipe(purpose: str) -> ModuleType:
    os.environ.setdefault("GLOG_minloglevel", "2")  # its C++ side greets on stderr at every start
    try:
        import mediapipe
    except ImportError as error:
        raise MissingExtraError("mediapipe", "conditions", purpose=purpose) from error
    return mediapipe


def _vision(purpose: str) -> Any:
    return _mediapipe(purpose).tasks.vision


def _base_options(name: str) -> Any:
    return _mediapipe(name).tasks.BaseOptions(model_asset_path=str(weights.path(name)))


def _image(image: NDArray[np.uint8]) -> Any:
    mediapipe = _mediapipe("Pose")
    return mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))


def _pixels(landmarks: Any, image: NDArray[np.uint8]) -> NDArray[np.float64]:
    height, width = image.shape[:2]
    return np.array([(point.x * width, point.y * height) for point in landmarks], float) - 0.5


def _metres(landmarks: Any) -> NDArray[np.float64]:
    return np.array([(point.x, point.y, point.z) for point in landmarks], float)
