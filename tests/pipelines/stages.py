"""Stages that misbehave, for the tests of the engine."""

from __future__ import annotations

import os
import time

import numpy as np

import media
from schemas.clip import Clip
from schemas.latents import Latents, caption_texts
from schemas.metrics import Metric
from schemas.stage import Filter, Stage


class Brightness(Filter):
    metrics = {"brightness": Metric("mean luma", "0..255", (0, 255))}

    def measure(self, clip: Clip) -> dict[str, float]:
        return {"brightness": media.frames(clip, fps=2, height=32).images.mean()}


class Counted(Filter):
    """Leaves a file for every clip it measures."""

    folder: str
    salt: int = 0
    metrics = {"counted": Metric("always one", "count", (0, 1))}

    def measure(self, clip: Clip) -> dict[str, float]:
        with open(os.path.join(self.folder, clip.key), "a") as stream:
            stream.write("x")
        return {"counted": 1.0}


class Misbehaves(Stage):
    """Does `how` to the clips of `pair_id`."""

    pair_id: str
    how: str

    def process(self, clip: Clip) -> None:
        if clip.pair.pair_id != self.pair_id:
            return
        if self.how == "raise":
            raise RuntimeError("no luck today")
        if self.how == "exit":
            os._exit(7)
        if self.how == "rename":
            clip.key = "somebody-00000000"


class WrongShape(Stage):
    gives = ("source_pts",)

    def process(self, clip: Clip) -> None:
        clip.artifacts["source_pts"] = clip.artifacts["source_pts"][:-1]


class NotFinite(Filter):
    metrics = {"nan": Metric("not a number", "", (None, None))}

    def measure(self, clip: Clip) -> dict[str, float]:
        return {"nan": float("nan")}


class NeedsPose(Stage):
    needs = ("video", "pose")

    def process(self, clip: Clip) -> None: ...


class CannotSetUp(Stage):
    def setup(self) -> None:
        raise MemoryError("the model does not fit")

    def process(self, clip: Clip) -> None: ...


class GivesParsing(Stage):
    gives = ("parsing",)
    label: int = 0

    def process(self, clip: Clip) -> None:
        shape = (clip.span.frames, clip.span.height, clip.span.width)
        clip.artifacts["parsing"] = np.full(shape, self.label, np.uint8)


class TakesParsing(Filter):
    needs = ("parsing",)
    metrics = {"label": Metric("mean label", "", (0, 23))}

    def measure(self, clip: Clip) -> dict[str, float]:
        return {"label": float(clip.artifacts["parsing"].mean())}


class Sleeps(Stage):
    seconds: float

    def process(self, clip: Clip) -> None:
        time.sleep(self.seconds)


class GivesConditions(Stage):
    """What the tiers would find in a clip: the same in every one."""

    gives = ("garment", "garment_mask", "agnostic_mask", "pose", "hands", "annotation")

    def process(self, clip: Clip) -> None:
        from tests.training.build import artifacts

        values = artifacts(frames=clip.span.frames, height=clip.span.height, width=clip.span.width)
        clip.artifacts.update({name: values[name] for name in self.gives})


class GivesLatents(Stage):
    """One window of one frame, of noise."""

    needs = ("video", "annotation")
    gives = ("latents",)
    seed: int = 0

    def process(self, clip: Clip) -> None:
        noise = np.random.default_rng(self.seed)
        video, captions = (1, 16, 1, 4, 4), len(caption_texts(clip.artifacts["annotation"]))
        clip.artifacts["latents"] = Latents(
            frames=np.zeros((1, 1), np.int32),
            **{name: noise.random(video).astype(np.float16) for name in ("video", "inactive", "reactive", "hands")},
            garment=noise.random(video[1:]).astype(np.float16),
            mask=np.zeros((1, 1, 32, 4), np.uint8),
            tokens=noise.random((captions, 8)).astype(np.float16),
            lengths=np.ones(captions, np.int32),
            pose_everywhere=np.asarray(False),
        )
