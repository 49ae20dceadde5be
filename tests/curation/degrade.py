"""Videos made worse on purpose, and pictures that no camera took."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from media import forget, frames
from schemas.clip import Clip
from tests.clips import SAME_BYTES, X264, clip_from

Pictures = NDArray[np.uint8]


def ffmpeg(source: Path, target: Path, *options: str, seconds: float = 3) -> Path:
    """Run the ffmpeg binary on the first seconds of `source`."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-i", str(source), "-t", str(seconds), "-an"]
    subprocess.run([*command, *options, str(target)], check=True)
    return target


def normalised(source: Path, target: Path, *filters: str, seconds: float = 3) -> Clip:
    """A clip as the ingest would encode it, after some of ffmpeg's video filters."""
    chain = ",".join(filters) or "null"
    file = ffmpeg(source, target, "-vf", chain, *X264, "-preset", "veryfast", "-crf", "18", seconds=seconds)
    return _fresh(file)


def from_pictures(pictures: Sequence[Pictures] | Pictures, target: Path, *, fps: int = 25, crf: int = 18) -> Clip:
    """A clip of (H, W, 3) uint8 RGB pictures of even size."""
    with av.open(str(target), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast", **SAME_BYTES}
        )
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return _fresh(target)


def _fresh(file: Path) -> Clip:
    """The clip in `file`, without frames that a test may have left of one of the same name."""
    clip = clip_from(file, pair_id="clip")
    forget(clip)
    return clip


def pictures_of(clip: Clip) -> Pictures:
    """(T, H, W, 3) uint8 RGB, writable."""
    return frames(clip).images.copy()


def scene(length: int = 50, *, height: int = 240, width: int = 180, step: float = 2.0) -> Pictures:
    """(T, H, W, 3): a textured figure that moves `step` px a frame to and fro in the middle, before a textured wall."""
    import cv2

    random = np.random.default_rng(7)
    wall = cv2.resize(random.integers(90, 170, (height // 12, width // 12, 3), np.uint8), (width, height))
    figure = cv2.resize(random.integers(0, 255, (height // 12, width // 18, 3), np.uint8), (width // 3, height // 2))
    shown = np.repeat(wall[None], length, axis=0)
    edge, room = width // 5, width * 3 // 5 - figure.shape[1]
    for i, picture in enumerate(shown):
        x = edge + int(abs((i * step) % (2 * room) - room))
        picture[height // 4 : height // 4 + figure.shape[0], x : x + figure.shape[1]] = figure
    return shown
