"""Stages that break in every way that a stage can, on the clips of the pairs that `how` names."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import media
from schemas.clip import Clip
from schemas.conditions import Pose
from schemas.errors import OutageError
from schemas.stage import Stage


class Faulty(Stage):
    """Breaks as `how` says, by pair id; the clips of all other pairs pass."""

    how: dict[str, str] = {}
    log: str = ""  # a file that gets the size of every batch
    gives = ("pose",)

    def process(self, clip: Clip) -> None:
        fault = self.how.get(clip.pair.pair_id, "")
        if fault:
            getattr(self, f"_{fault}")(clip)

    def process_batch(self, clips: Sequence[Clip]) -> None:
        if self.log:
            with open(self.log, "a") as log:
                log.write(f"{len(clips)}\n")
        super().process_batch(clips)

    def _raise(self, clip: Clip) -> None:
        raise RuntimeError("on purpose")

    def _sleep(self, clip: Clip) -> None:
        time.sleep(1000)

    def _hold(self, clip: Clip) -> None:
        ctypes.PyDLL(None).sleep(1000)  # never lets go of the interpreter

    def _eat(self, clip: Clip) -> None:
        kept: list[Any] = []
        while True:
            kept.append(np.zeros(2**26))  # 512 MB

    def _exit(self, clip: Clip) -> None:
        os._exit(1)

    def _segfault(self, clip: Clip) -> None:
        ctypes.string_at(0)

    def _shape(self, clip: Clip) -> None:
        clip.artifacts["pose"] = Pose(np.zeros((2, 133, 2), np.float32), np.zeros((2, 133), np.float16))

    def _nan(self, clip: Clip) -> None:
        frames = clip.span.frames
        clip.artifacts["pose"] = Pose(
            np.full((frames, 133, 2), np.nan, np.float32), np.zeros((frames, 133), np.float16)
        )

    def _key(self, clip: Clip) -> None:
        clip.key = "another-00000000"


class Looks(Faulty):
    """Notes which decoded frames it was given of each clip; there is room for those of one clip only."""

    seen: str
    gives = ()

    def setup(self) -> None:
        sys.modules["media.frames"].CACHE_BYTES = 1  # type: ignore[attr-defined]

    def process(self, clip: Clip) -> None:
        images = media.frames(clip).images
        _LOOKED_AT.append(images)  # so that no others come to lie in their place
        with open(self.seen, "a") as seen:
            seen.write(f"{clip.key} {id(images)}\n")
        super().process(clip)


_LOOKED_AT: list[NDArray[np.uint8]] = []


class DiesOnce(Stage):
    """Kills its worker the first time that it meets each clip."""

    folder: str

    def process(self, clip: Clip) -> None:
        seen = Path(self.folder, clip.key)
        if not seen.exists():
            seen.touch()
            os._exit(1)


class Away(Stage):
    """Says that a server is away until the file `back` is there; notes when it was asked."""

    back: str
    asked: str

    def process(self, clip: Clip) -> None:
        with open(self.asked, "a") as file:
            file.write(f"{time.time()} {clip.key}\n")
        if not Path(self.back).exists():
            raise OutageError("the server is away", where="http://127.0.0.1:9")


class AlwaysRaises(Stage):
    def process(self, clip: Clip) -> None:
        raise ConnectionRefusedError("nobody listens on port 9")
