"""The DWPose stage against a plain loop: detector in every frame, pose of every person, one picture a call.

    python -m benchmarks.dwpose video.mp4 [--detector yolox_l.onnx --estimator dw-ll_ucoco_384.onnx] [--device cuda]

Both run the same files on the same decoded frames, in turns. Without files of its own it makes networks that cost what
the real ones do (`LAYERS`) and see bright green as a person; `--light` leaves the cost out, so that what is left is
the work around the networks. Without a video a clip of one person is drawn. With more of them the loop has more to do,
while the stage estimates the presenter's pose alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.conditions import first_clip
from media import frames
from preprocess.dwpose.detector import distinct, letterbox, people
from preprocess.dwpose.estimator import normalised, simcc_peaks
from preprocess.dwpose.stage import DWPose
from preprocess.dwpose.window import HEIGHT, WIDTH, window_pixels, windows
from schemas.clip import Clip
from tests.curation.degrade import from_pictures
from tests.preprocess.dwpose.networks import detector_file, estimator_file

LAYERS = (20, 10)
"""Convolutions of the drawn networks: 78 and 10 thousand million multiplications, as YOLOX-L has at 640 px and the
pose network, an RTMPose-L, at 384×288 (YOLOX and RTMPose papers)."""


class PlainLoop:
    """As the published program runs, on sessions with onnxruntime's own settings."""

    def __init__(self, detector: Path, estimator: Path, device: str) -> None:
        import onnxruntime

        has_cuda = device != "cpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        providers = ["CUDAExecutionProvider"] * has_cuda + ["CPUExecutionProvider"]
        self.detector, self.estimator = (
            onnxruntime.InferenceSession(file, providers=providers) for file in (detector, estimator)
        )
        self.calls = 0

    def __call__(self, images: np.ndarray) -> None:
        for image in images:
            ratio = min(640 / image.shape[0], 640 / image.shape[1])
            raw = self.run(self.detector, letterbox(image))[0]
            boxes, scores = people(raw, ratio=ratio, least_score=0.3)
            boxes = boxes[distinct(boxes, scores, most_overlap=0.45)]
            for centre, size in zip(*windows(boxes), strict=True):
                bins, _ = simcc_peaks(*self.run(self.estimator, normalised(window_pixels(image, centre, size))))
                bins / 2 / (WIDTH, HEIGHT) * size + centre - size / 2

    def run(self, session: Any, picture: np.ndarray) -> list[np.ndarray]:
        self.calls += 1
        return [output[0] for output in session.run(None, {session.get_inputs()[0].name: picture[None]})]


def drawn(folder: Path, *, length: int = 48, height: int = 832, width: int = 624) -> Clip:
    """A disc that sways."""
    pictures = np.full((length, height, width, 3), 70, np.uint8)
    for i, picture in enumerate(pictures):
        cv2.circle(picture, (width // 2 + round(60 * np.sin(i / 8)), height // 2), 40, (0, 255, 0), -1)
    return from_pictures(pictures, folder / "drawn.mp4", fps=24)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--estimator", type=Path)
    parser.add_argument("--light", action="store_true", help="drawn networks that cost next to nothing")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--frames", type=int, default=48, help="length of the drawn clip")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        layers = (0, 0) if options.light else LAYERS
        detector = options.detector or detector_file(folder / "detector.onnx", batch=1, layers=layers[0])
        estimator = options.estimator or estimator_file(folder / "estimator.onnx", batch=1, layers=layers[1])
        clip = first_clip(options.video, "upper") if options.video else drawn(folder, length=options.frames)
        stage = DWPose(detector=str(detector), estimator=str(estimator), device=options.device)
        stage.setup()
        plain = PlainLoop(detector, estimator, options.device)
        images = frames(clip).images
        plain(images[:2])
        plain.calls = 0
        times = [(seconds(lambda: plain(images)), seconds(lambda: stage.process(clip))) for _ in range(options.runs)]
    loop, ours = np.median(times, axis=0)
    print(f"{len(images)} frames of {images.shape[2]}x{images.shape[1]}, median of {options.runs} runs each, in turns")
    print(
        f"plain loop {len(images) / loop:8.2f} frames/s, {plain.calls / options.runs / len(images):.2f} calls a frame"
    )
    print(f"stage      {len(images) / ours:8.2f} frames/s")
    print(f"ratio      {loop / ours:8.2f}")


if __name__ == "__main__":
    main()
