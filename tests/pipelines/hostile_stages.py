"""Stages and filters as users get them wrong, for the tests of what the user is told."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from schemas.clip import Clip
from schemas.metrics import Metric
from schemas.stage import Filter, Stage

X = {"x": Metric("a number", "", (None, None))}


class Returns(Filter):
    """Measures whatever `how` names."""

    how: str
    metrics = X

    def measure(self, clip: Clip) -> Any:
        return {
            "float32": {"x": np.float32(1)},
            "bool": {"x": np.bool_(True)},
            "none": None,
            "list": [1.0],
            "text": {"x": "1"},
            "array": {"x": np.ones(1)},
            "huge": {"x": 10**400},
        }[self.how]


class Breaks(Stage):
    """Leaves the clip as `how` says."""

    how: str
    gives = ("pose",)

    def process(self, clip: Clip) -> None:
        if self.how == "type":
            clip.artifacts["pose"] = np.zeros((3, 133, 2))
        elif self.how == "undeclared":
            clip.artifacts["video"] = b"junk"
        elif self.how == "removed":
            del clip.artifacts["video"]
        elif self.how == "metric":
            clip.metrics["x"] = "a"  # type: ignore[assignment]
        elif self.how == "surrogate":
            raise RuntimeError("bad \udcff name")
        elif self.how == "mute":
            raise MuteError
        elif self.how == "endless":
            raise RuntimeError("x" * 1_000_000)


class MuteError(Exception):
    def __str__(self) -> str:
        raise ValueError("cannot say")


class NoMetrics(Filter):
    def measure(self, clip: Clip) -> dict[str, float]:
        return {"x": 1.0}


class ListOfMetrics(Filter):
    metrics = ["x"]  # type: ignore[assignment]

    def measure(self, clip: Clip) -> dict[str, float]:
        return {"x": 1.0}


class NoMeasure(Filter):
    metrics = X


class NoProcess(Stage):
    pass


class GivesUnknown(Stage):
    gives = ("posture",)

    def process(self, clip: Clip) -> None: ...


class NeedsText(Stage):
    needs = "video"  # type: ignore[assignment]

    def process(self, clip: Clip) -> None: ...


class Slow(Stage):
    def process(self, clip: Clip) -> None:
        time.sleep(1.0)


class CannotBeSetUp(Stage):
    def setup(self) -> None:
        raise KeyError("model")

    def process(self, clip: Clip) -> None: ...
