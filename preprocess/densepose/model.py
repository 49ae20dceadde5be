"""DensePose R-CNN (Güler et al., 2018; detectron2's DensePose project): R-50 FPN, plain and DeepLab head.

Parameters are named as in the published checkpoints `densepose_rcnn_R_50_FPN_s1x` and `…_DL_s1x`. Pictures are
N × 3 × H × W, blue green red less their means, H and W multiples of 32; `preprocess.densepose.pictures` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preprocess.densepose import boxes as box
from preprocess.densepose.backbone import FeaturePyramid, NormedConv
from preprocess.densepose.detector import (
    BOX_WEIGHTS,
    BoxHead,
    BoxPredictor,
    Detections,
    ProposalNetwork,
    best_boxes,
    pool_boxes,
)
from preprocess.densepose.heads import POOLED, Decoder, DeepLabHead, PlainHead, Predictor, Surfaces
from preprocess.densepose.regions import STRIDES, Windows, roi_align
from schemas.errors import WeightsError
from weights.checkpoints import load_strictly, read_pickle

IGNORED = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")
"""Constants that some files hold besides."""
DEEPLAB = "roi_heads.densepose_head.ASPP."
"""Keys that only the DeepLab variant has."""


@dataclass(frozen=True)
class Features:
    """Levels p2 to p5 of N pictures, (N, 256, ·, ·) each at strides 4 to 32.

    `finished` says whether they went through the pyramid's output convolutions, as the detector wants them; the
    DensePose half needs that around its boxes only.
    """

    levels: Sequence[Tensor]
    finished: bool = False


class RoIHeads(nn.Module):
    """The heads that look at regions."""

    def __init__(self, *, deeplab: bool) -> None:
        super().__init__()
        self.box_head = BoxHead()
        self.box_predictor = BoxPredictor()
        self.decoder = Decoder()
        self.densepose_head = DeepLabHead() if deeplab else PlainHead()
        self.densepose_predictor = Predictor()


class DensePoseRCNN(nn.Module):
    """The whole network: `features` of pictures, people that `detect` finds in them, `surfaces` of people."""

    def __init__(self, *, deeplab: bool = False) -> None:
        super().__init__()
        self.backbone = FeaturePyramid()
        self.proposal_generator = ProposalNetwork()
        self.roi_heads = RoIHeads(deeplab=deeplab)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and pictures."""
        return self.roi_heads.decoder.predictor.weight.dtype

    def features(self, pictures: Tensor) -> Features:
        """What the backbone sees in (N, 3, H, W) pictures."""
        return Features(self.backbone(pictures))

    def finish(self, features: Features) -> Features:
        """Those that `detect` and `judge` take."""
        return features if features.finished else Features(self.backbone.outputs(features.levels), finished=True)

    def detect(self, features: Features, size: tuple[int, int]) -> list[Detections]:
        """People in each of N pictures of `size` (height, width) px without padding, at most 100."""
        features = self.finish(features)
        proposals = self.proposal_generator(features.levels, size)
        of_image, place = proposals.there.nonzero(as_tuple=True)
        regions = proposals.boxes[of_image, place]
        logits, deltas = self.judge(features, regions, of_image)
        decoded = box.decode(regions, deltas, weights=BOX_WEIGHTS)
        scores = logits.softmax(-1)[:, 0]
        each = [of_image == image for image in range(len(features.levels[0]))]
        return [best_boxes(decoded[those], scores[those], size) for those in each]

    def judge(self, features: Features, boxes: Tensor, of_image: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 2) logits of person and background and (R, 4) deltas for (R, 4) boxes, each in picture `of_image`."""
        pooled = pool_boxes(self.finish(features).levels, boxes, of_image)
        return self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))

    def surfaces(self, features: Features, boxes: Tensor, of_image: Tensor) -> Surfaces:
        """The surface of the person in each of (R, 4) float32 boxes, px of the network's frame, inside the pictures.

        Only what the boxes need is computed: the result is the same. `of_image`, (R,) int64, says which of the N
        pictures each box lies in.
        """
        images, _, rows, columns = features.levels[3].shape
        windows = Windows.around(boxes, of_image, images=images, whole=(rows, columns))
        heads = self.roi_heads
        around = self.finish(Features(heads.decoder.cut(features.levels, windows), features.finished))
        decoded = heads.decoder(around.levels, windows)
        corners = windows.widened(1).corners(of_image)
        pooled = roi_align(decoded, boxes - corners, of_image, stride=STRIDES[0], size=POOLED)
        return heads.densepose_predictor(heads.densepose_head(pooled))


def load(file: Path, *, device: torch.device, dtype: torch.dtype) -> DensePoseRCNN:
    """The network with the weights of a published checkpoint (`.pkl`).

    Raises:
        WeightsError: the file is no pickle of arrays, or keys are missing, too many or misshapen: it names them.

    """
    return network_of(read_weights(file), where=file).to(device, dtype)


def network_of(values: Mapping[str, Any], *, where: object) -> DensePoseRCNN:
    """The network with weights by name, in channels_last, frozen norms folded into convolutions.

    Which variant it is, plain or DeepLab, the keys say. Raises `WeightsError` as `load` does; `where` is for that.
    """
    values = dict(values)
    with torch.device("meta"):  # nothing is drawn at random only to be written over
        model = DensePoseRCNN(deeplab=any(name.startswith(DEEPLAB) for name in values))
    model = model.to_empty(device="cpu").requires_grad_(False).eval()
    for kind, default in ((".running_mean", 0.0), (".running_var", 1.0)):  # old files have none: they are constant
        if not any(name.endswith(kind) for name in values):
            constants = {name: tensor for name, tensor in model.state_dict().items() if name.endswith(kind)}
            values |= {name: torch.full_like(tensor, default) for name, tensor in constants.items()}
    load_strictly(model, values, where=where, ignored=IGNORED)
    for module in list(model.modules()):
        if isinstance(module, NormedConv):
            module.fold()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def read_weights(file: Path) -> dict[str, Any]:
    """Name → array, as a published checkpoint holds them. Raises `WeightsError` where `file` is none."""
    content = read_pickle(file, encoding="latin1")
    values = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise WeightsError(
            "the pickle holds no weights by name", where=str(file), allowed='{"model": {name: array}, …}'
        )
    return dict(values)
