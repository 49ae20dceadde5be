"""The same network as an installed detectron2 runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from preprocess.densepose.detector import Detections
from preprocess.densepose.heads import Surfaces
from preprocess.densepose.model import DEEPLAB, read_weights
from schemas.errors import ConfigError

LEVELS = ["p2", "p3", "p4", "p5"]
SETTINGS: dict[str, Any] = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "BACKBONE.NAME": "build_resnet_fpn_backbone",
    "RESNETS.DEPTH": 50,
    "RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "ANCHOR_GENERATOR.SIZES": [[32], [64], [128], [256], [512]],
    "ANCHOR_GENERATOR.ASPECT_RATIOS": [[0.5, 1.0, 2.0]],
    "RPN.IN_FEATURES": [*LEVELS, "p6"],
    "RPN.PRE_NMS_TOPK_TEST": 1000,
    "RPN.POST_NMS_TOPK_TEST": 1000,
    "DENSEPOSE_ON": True,
    "ROI_HEADS.NAME": "DensePoseROIHeads",
    "ROI_HEADS.IN_FEATURES": LEVELS,
    "ROI_HEADS.NUM_CLASSES": 1,
    "ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "ROI_BOX_HEAD.NUM_FC": 2,
    "ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
    "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",
    "ROI_DENSEPOSE_HEAD.NAME": "DensePoseV1ConvXHead",
    "ROI_DENSEPOSE_HEAD.POOLER_TYPE": "ROIAlign",
    "ROI_DENSEPOSE_HEAD.NUM_COARSE_SEGM_CHANNELS": 2,
}
"""The published configurations, under `MODEL`, where they differ from detectron2's defaults."""


class Detectron2Network:
    """A `Network` (see `preprocess.densepose.reader`) made of detectron2 and its DensePose project, in float32.

    Raises:
        ConfigError: one of them is not installed.
        WeightsError: the checkpoint is no pickle of arrays.

    """

    dtype = torch.float32

    def __init__(self, file: Path, *, device: torch.device) -> None:
        try:
            from densepose import add_densepose_config  # type: ignore[import-not-found]
            from detectron2.checkpoint import DetectionCheckpointer  # type: ignore[import-not-found]
            from detectron2.config import get_cfg  # type: ignore[import-not-found]
            from detectron2.modeling import build_model  # type: ignore[import-not-found]
        except ImportError as error:
            raise ConfigError(
                f"this needs detectron2 and its project DensePose: {error}", where="backend: detectron2",
                allowed="backend: torch, which needs neither",
                remedy="Else build both from detectron2's sources; they are on no package index",
            ) from error  # fmt: skip
        config = get_cfg()
        add_densepose_config(config)
        config.merge_from_list([word for name, value in SETTINGS.items() for word in (f"MODEL.{name}", value)])
        if any(name.startswith(DEEPLAB) for name in read_weights(file)):
            config.MODEL.ROI_DENSEPOSE_HEAD.NAME = "DensePoseDeepLabHead"
        config.MODEL.DEVICE = str(device)
        self._model = build_model(config).eval()
        DetectionCheckpointer(self._model).load(str(file))

    def features(self, pictures: Tensor) -> dict[str, Tensor]:
        """The pyramid, by level."""
        return self._model.backbone(pictures)

    def finish(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those same."""
        return features

    def detect(self, features: dict[str, Tensor], size: tuple[int, int]) -> list[Detections]:
        """People in each picture."""
        from detectron2.structures import ImageList  # type: ignore[import-not-found]

        pictures = len(features["p2"])
        images = ImageList(features["p2"], [size] * pictures)  # only their sizes are asked for
        proposals, _ = self._model.proposal_generator(images, features)
        found = self._model.roi_heads._forward_box(features, proposals)
        return [Detections(each.pred_boxes.tensor, each.scores) for each in found]

    def surfaces(self, features: dict[str, Tensor], boxes: Tensor, of_image: Tensor) -> Surfaces:
        """The surface of the person in each of (R, 4) boxes, those of one picture next to each other."""
        from detectron2.structures import Boxes, Instances

        given = []
        for image in range(len(features["p2"])):
            those = Instances((0, 0))
            those.pred_boxes = Boxes(boxes[of_image == image])
            those.pred_classes = torch.zeros(len(those.pred_boxes), dtype=torch.int64, device=boxes.device)
            given.append(those)
        found = [each.pred_densepose for each in self._model.roi_heads.forward_with_given_boxes(features, given)]
        coarse, fine, u, v = (
            torch.cat([getattr(each, name) for each in found]) for name in ("coarse_segm", "fine_segm", "u", "v")
        )
        return Surfaces(coarse, fine, u, v)
