"""The stage for person and pose of the full tier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field, PrivateAttr

import weights
from media import frames
from preprocess.dwpose.following import Following
from preprocess.dwpose.network import Device
from schemas.clip import Clip
from schemas.stage import ModelFile, Stage

if TYPE_CHECKING:
    from preprocess.dwpose.detector import PersonDetector
    from preprocess.dwpose.estimator import PoseEstimator


class DWPose(Stage):
    """Gives the presenter's track and whole-body pose, by YOLOX and DWPose's network.

    People are looked for a few times a second and linked as in the embedded tier. Between two looks that found the
    presenter the box is interpolated, so that the poses of all frames, and of all clips at hand, go to the network
    together. A frame is looked at itself where the looks around it disagree, or where its pose is unsure. Unlike
    DWPose's own program, which then takes the whole picture for a person, a frame without a person has none: score 0.

    Scores are the network's, which are not bounded, cut to 0..1.
    """

    gives: ClassVar[tuple[str, ...]] = ("person", "pose")

    detector: ModelFile = Field(
        default="yolox_l", description="YOLOX with raw outputs, ONNX: `images` (N, 3, 640, 640) to (N, 8400, 85)."
    )
    estimator: ModelFile = Field(
        default="dw-ll_ucoco_384",
        description="Pose network of DWPose, ONNX: `input` (N, 3, 384, 288) to `simcc_x`, `simcc_y`.",
    )
    device: Device = Field(default="auto", description="auto is CUDA where onnxruntime has it, else CPU.")
    batch: int = Field(default=16, ge=1, description="Most pictures in one call on a GPU, if the files allow it.")
    detect_fps: float = Field(default=4.0, gt=0, description="How often people are looked for and counted, per second.")
    person_score: float = Field(default=0.3, ge=0, lt=1, description="Above which a detection is a person.")
    person_overlap: float = Field(
        default=0.45, ge=0, le=1, description="Intersection over union above which two detections are one person."
    )
    trust: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="A frame between two looks is looked at itself if its body's mean score is below this share of "
        "theirs; 0 never does.",
    )

    _detector: PersonDetector = PrivateAttr()
    _estimator: PoseEstimator = PrivateAttr()

    def setup(self) -> None:
        """Load both networks.

        Raises:
            WeightsError: a file is absent, no ONNX network, or one with other inputs and outputs.
            ConfigError: `device` is cuda, and onnxruntime cannot use it.
            MissingExtraError: onnxruntime is not installed.

        """
        from preprocess.dwpose.detector import PersonDetector
        from preprocess.dwpose.estimator import PoseEstimator

        self._detector = PersonDetector(
            weights.path(self.detector),
            least_score=self.person_score,
            most_overlap=self.person_overlap,
            device=self.device,
            batch=self.batch,
        )
        self._estimator = PoseEstimator(weights.path(self.estimator), device=self.device, batch=self.batch)

    def process(self, clip: Clip) -> None:
        """Fill in `person` and `pose`."""
        self.process_batch([clip])

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """Fill in `person` and `pose` of several clips, whose frames go to the networks together."""
        all_followed = [Following(frames(clip).images) for clip in clips]
        steps = [max(1, round(float(clip.span.fps) / self.detect_fps)) for clip in clips]
        self._look([(one, frame) for one, step in zip(all_followed, steps, strict=True) for frame in one.regular(step)])
        self._estimate(all_followed)
        self._look([(one, frame) for one in all_followed for frame in one.doubtful(self.trust)])
        self._estimate(all_followed)
        for clip, one in zip(clips, all_followed, strict=True):
            clip.artifacts["person"], clip.artifacts["pose"] = one.person(), one.pose()

    def _look(self, wanted: list[tuple[Following, int]]) -> None:
        """Look for people in these frames, and in those that have to be looked at for it."""
        while wanted:
            found = self._detector([one.images[frame] for one, frame in wanted])
            for (one, frame), boxes in zip(wanted, found, strict=True):
                one.found(frame, boxes)
            wanted = [(one, frame) for one in {id(one): one for one, _ in wanted}.values() for frame in one.decide()]

    def _estimate(self, all_followed: Sequence[Following]) -> None:
        """Estimate poses where they are missing."""
        wanted = [(one, frame) for one in all_followed for frame in one.stale()]
        if wanted:
            boxes = np.stack([one.boxes[frame] for one, frame in wanted])
            points = self._estimator([one.images[frame] for one, frame in wanted], boxes)
            for (one, frame), (keypoints, scores) in zip(wanted, points, strict=True):
                one.estimated(frame, keypoints, scores)
