"""SAM 2 and SAM 3 as trackers: transformers' video models, from the user's own folder.

Shape legend: T frames of the clip, N of them in a batch, H×W px of the window; S the side of the model's square.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from preprocess.crops import Box
from preprocess.devices import Precision, frames_on, torch_device, torch_dtype
from preprocess.pretrained import PictureInput, load_pretrained, model_type, picture_input
from schemas.clip import Clip
from schemas.errors import WeightsError

if TYPE_CHECKING:
    import torch

Mask = NDArray[np.bool_]

MODELS = {
    "sam2_video": "Sam2VideoModel",  # facebook/sam2.1-hiera-*
    "sam3_video": "Sam3TrackerVideoModel",  # facebook/sam3: its tracker, without the detector
    "sam3_tracker_video": "Sam3TrackerVideoModel",
}
"""`model_type` of config.json → class of transformers."""
GARMENT = 1
"""Id of the one object that is followed."""


@dataclass(frozen=True, eq=False)
class SamTracker:
    """Follows what is marked by SAM's memory of frames before (SAM 2: Ravi et al., 2024), through occlusions.

    Attributes:
        model: of `MODELS`, for inference.
        prepare: how pictures are made ready for it.
        batch: frames that go through its image encoder at once.
        lasts: seconds after which it should be prompted anew: none, it remembers.

    """

    model: Any
    prepare: PictureInput
    batch: int
    lasts: float = math.inf

    @classmethod
    def load(cls, folder: str, *, device: str, precision: Precision, batch: int) -> SamTracker:
        """Read the model in `folder` (registry name or path). `precision` "auto" is bfloat16 on a GPU, as published.

        Raises:
            WeightsError: the folder holds no video model of SAM, or not a whole one.

        """
        kind = model_type(folder)
        if kind not in MODELS:
            raise WeightsError(
                f"this is a model of type {kind}, which follows nothing", where=folder, allowed=", ".join(MODELS)
            )
        where = torch_device(device)
        wanted: Precision = "bfloat16" if precision == "auto" and where.type == "cuda" else precision
        model = load_pretrained(MODELS[kind], folder, device=where, dtype=torch_dtype(wanted, where))
        return cls(model=model, prepare=picture_input(folder), batch=batch)

    def watch(self, clip: Clip, window: Box, hidden: Mask) -> SamFootage:
        """Encode the frames, once for however many prompts; 15 MB a frame are kept where S is 1024, in half precision.

        `hidden` is not looked at: SAM sees what is in front.
        """
        import torch
        import transformers

        x0, y0, x1, y1 = window
        images = frames_on(clip, self.model.device)[:, y0:y1, x0:x1]
        session = getattr(transformers, type(self.model).__name__.replace("Model", "InferenceSession"))(
            video=torch.empty(len(images), 0),  # only their number: the features of all frames are kept
            video_height=y1 - y0, video_width=x1 - x0, dtype=self.model.dtype, inference_device=self.model.device,
            inference_state_device=self.model.device, max_vision_features_cache_size=len(images),
        )  # fmt: skip
        side = self.model.config.image_size
        for start in range(0, len(images), self.batch):
            pixels = self.prepare.ready(images[start : start + self.batch], (side, side))
            with torch.inference_mode():
                seen = self.model.get_image_features(pixels.to(self.model.dtype), return_dict=True)
            places = [place[:, :1] for place in seen.fpn_position_encoding]
            for index in range(len(pixels)):
                features = [feature[:, index : index + 1] for feature in seen.fpn_hidden_states]
                session.cache.cache_vision_features(
                    start + index, {"vision_feats": features, "vision_pos_embeds": places}
                )
        return SamFootage(model=self.model, session=session, shape=(y1 - y0, x1 - x0))


@dataclass(frozen=True, eq=False)
class SamFootage:
    """A clip that SAM has encoded.

    Attributes:
        model: the model.
        session: transformers' state of tracking, with the features of all frames.
        shape: H and W.

    """

    model: Any
    session: Any
    shape: tuple[int, int]

    def track(self, prompts: Mapping[int, Mask]) -> Mask:
        """(T, H, W) bool: what `prompts` mark, followed to the end from the first, and back to the beginning.

        All prompts are remembered in every frame, those to come too.
        """
        import torch

        self.session.reset_tracking_data()
        index = self.session.obj_id_to_idx(GARMENT)
        for frame in sorted(prompts):
            self.session.add_mask_inputs(index, frame, self._square(prompts[frame]))
            self.session.obj_with_new_inputs = [GARMENT]
            self.model(inference_session=self.session, frame_idx=frame)
        found = torch.zeros((self.session.num_frames, *self.shape), dtype=torch.bool, device=self.model.device)
        for reverse in (False, True):
            for seen in self.model.propagate_in_video_iterator(
                self.session, start_frame_idx=min(prompts), reverse=reverse
            ):
                found[seen.frame_idx] = self._full(seen.pred_masks)
        return found.cpu().numpy()

    def _square(self, mask: Mask) -> torch.Tensor:
        """(H, W) → (1, 1, S, S) of 0 and 1."""
        import torch
        from torch.nn.functional import interpolate

        side = self.model.config.image_size
        pixels = torch.from_numpy(mask).to(self.model.device)[None, None].float()
        return (interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True) >= 0.5).float()

    def _full(self, logits: torch.Tensor) -> torch.Tensor:
        """(1, 1, S/4, S/4) → (H, W) bool."""
        from torch.nn.functional import interpolate

        return interpolate(logits.float(), self.shape, mode="bilinear", align_corners=False)[0, 0] > 0
