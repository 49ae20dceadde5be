"""Clips with a moving picture and a known truth, and stages that have them labelled by a server of the tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from annotators.smoothing import Segment, segments
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.stage import VlmLabels
from schemas.annotation import Annotation
from schemas.clip import Clip
from tests.clips import SAME_BYTES, clip_from

SIZE = (96, 64)


def film(path: Path, *, frames: int, fps: Fraction = Fraction(30), seed: int = 0) -> Clip:
    """A clip of random blocks, no two frames alike."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "30", "preset": "ultrafast", **SAME_BYTES})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for _ in range(frames):
            blocks = random.integers(40, 216, (SIZE[1] // 16, SIZE[0] // 16, 3), dtype=np.uint8)
            picture = np.kron(blocks, np.ones((16, 16, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return clip_from(path)


def truth_of(frames: int, fps: float, *, seed: int) -> np.ndarray:
    """(T,) bool: true for 0.6 to 2 s, false for 0.6 to 2 s, in turn."""
    lengths = np.random.default_rng(seed).uniform(0.6, 2.0, 100)
    turns = np.searchsorted(np.cumsum(lengths), np.arange(frames) / fps, side="right")
    truth = (turns + seed) % 2 == 0
    truth[-int(0.6 * fps) :] = truth[-int(0.6 * fps)]  # nothing that ends as soon as it begins
    return truth


class Truth:
    """What is so at a time of a clip, for the behaviours of the server."""

    def __init__(self, labels: np.ndarray, fps: float) -> None:
        self.labels, self._fps = labels, fps

    def __call__(self, seconds: float) -> bool:
        return bool(self.labels[round(seconds * self._fps)])

    @property
    def segments(self) -> list[Segment]:
        return segments(self.labels)


class Stages:
    """Makes stages ready to work, with short waits, whose backends are closed in the end."""

    def __init__(self) -> None:
        self._made: list[VlmLabels] = []

    def __call__(self, address: str, *, model: str = "labeller", tries: int = 3, **fields: Any) -> VlmLabels:
        settings = OpenAISettings(base_url=address, model=model, tries=tries, longest_wait=0.02, request_seconds=5.0)
        made = VlmLabels(backend=settings, **fields)
        made.setup()
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


def label(made: VlmLabels, clip: Clip) -> Annotation:
    made.process(clip)
    annotation: Annotation = clip.artifacts["annotation"]
    return annotation


def found(annotation: Annotation) -> list[Segment]:
    return [(action.start_frame, action.end_frame) for action in annotation.actions]
