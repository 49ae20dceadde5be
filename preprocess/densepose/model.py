"""DensePose R-CNN (Güler et al., 2018; detectron2's DensePose project): R-50 FPN, plain and DeepLab head.

Parameters are named as in the published checkpoints `densepose_rcnn_R_50_FPN_s1x` and `…_DL_s1x`. Pictures are
N × 3 × H × W, blue green red less their means, H and W multiples of 32; `preprocess.densepose.pictures` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from preprocess.checkpoints import load_strictly, read_pickle
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
from preprocess.densepose.heads import POOLED, DeepLabHead, Decoder, PlainHead, Predictor, Surfaces
from preprocess.densepose.regions import STRIDES, Windows, roi_align
from schemas.errors import WeightsError

IGNORED = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")
"""Constants that some files hold besides."""
DEEPLAB = "roi_heads.densepose_head.ASPP."
"""Keys that only the DeepLab variant has."""


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
    """The whole network. `load` makes one that is ready; its parts may be called one by one.

    `backbone` gives features, of which `backbone.outputs` makes the pyramid that `detect` wants. `surfaces` takes
    either: of features it finishes only what the boxes need.
    """

    def __init__(self, *, deeplab: bool = False) -> None:
        super().__init__()
        self.backbone = FeaturePyramid()
        self.proposal_generator = ProposalNetwork()
        self.roi_heads = RoIHeads(deeplab=deeplab)

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and pictures."""
        return self.roi_heads.decoder.predictor.weight.dtype

    def detect(self, pyramid: Sequence[Tensor], size: tuple[int, int]) -> list[Detections]:
        """People in each of N pictures of `size` (height, width) px without padding; `pyramid` is p2 to p5."""
        proposals = self.proposal_generator(pyramid, size)
        of_image, place = proposals.there.nonzero(as_tuple=True)
        regions = proposals.boxes[of_image, place]
        logits, deltas = self.judge(pyramid, regions, of_image)
        decoded = box.decode(regions, deltas, weights=BOX_WEIGHTS)
        scores = logits.softmax(-1)[:, 0]
        each = [of_image == image for image in range(len(pyramid[0]))]
        return [best_boxes(decoded[those], scores[those], size) for those in each]

    def judge(self, pyramid: Sequence[Tensor], boxes: Tensor, of_image: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 2) logits of person and background and (R, 4) deltas for (R, 4) boxes, each in picture `of_image`."""
        pooled = pool_boxes(pyramid, boxes, of_image)
        return self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))

    def surfaces(self, levels: Sequence[Tensor], boxes: Tensor, of_image: Tensor, *, finished: bool) -> Surfaces:
        """The surface of the person in each of (R, 4) boxes, px of the network's frame, each in picture `of_image`.

        Args:
            levels: p2 to p5, N pictures.
            boxes: inside the pictures.
            of_image: (R,) int64.
            finished: whether `levels` went through `backbone.outputs`; else it is done here, around the boxes only.

        """
        images, _, rows, columns = levels[3].shape
        windows = Windows.around(boxes, of_image, images=images, whole=(rows, columns))
        heads = self.roi_heads
        cuts = heads.decoder.cut(levels, windows)
        decoded = heads.decoder(cuts if finished else self.backbone.outputs(cuts), windows)
        corners = windows.widened(1).corners(of_image)
        pooled = roi_align(decoded, boxes - corners, of_image, stride=STRIDES[0], size=POOLED)
        return heads.densepose_predictor(heads.densepose_head(pooled))


def load(file: Path, *, device: torch.device, dtype: torch.dtype) -> DensePoseRCNN:
    """The network with the weights of a published checkpoint (`.pkl`), frozen norms folded into convolutions.

    Which variant it is, plain or DeepLab, the keys say.

    Raises:
        WeightsError: the file is no pickle of arrays, or keys are missing, too many or misshapen: it names them.

    """
    values = _read(file)
    with torch.device("meta"):  # nothing is drawn at random only to be written over
        model = DensePoseRCNN(deeplab=any(name.startswith(DEEPLAB) for name in values))
    model = model.to_empty(device="cpu").requires_grad_(False).eval()
    for name, default in (("running_mean", 0.0), ("running_var", 1.0)):  # old files lack those that are constant
        for wanted, tensor in model.state_dict().items():
            if wanted.endswith(f"norm.{name}") and wanted not in values:
                values[wanted] = torch.full_like(tensor, default)
    load_strictly(model, values, where=file, ignored=IGNORED)
    for module in list(model.modules()):
        if isinstance(module, NormedConv):
            module.fold()
    return model.to(device=device, dtype=dtype, memory_format=torch.channels_last)


def _read(file: Path) -> dict[str, Any]:
    content = read_pickle(file, encoding="latin1")
    values = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise WeightsError(
            "the pickle holds no weights by name", where=str(file), allowed='{"model": {name: array}, …}'
        )
    return dict(values)
