"""The full tier's stages on one card: frames a second, memory, and the share of the card's peak that they reach.

    python -m benchmarks.gpu [--seconds 3] [--stages densepose,hands] [--device cuda]

Stages run whole, decoding left out, on a drawn clip of 624×832 px with synthetic weights at the published sizes. The
peak is not taken from a data sheet but measured in the same run: products of large square matrices in half precision.
Operations are counted by torch, so DWPose, which runs in onnxruntime, has no share. `--small` is for machines without
a GPU: it shows that all runs.
"""

from __future__ import annotations

import argparse
import math
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.densepose import weights as densepose_weights
from benchmarks.hamer import random_network
from benchmarks.parsing import sapiens2, saved, segformer
from media import frames
from preprocess.densepose.stage import DensePose
from preprocess.dwpose.stage import DWPose
from preprocess.garment_track import GarmentTrack
from preprocess.hamer.stage import HamerHands
from preprocess.segmentation import Segmentation
from schemas.body import HAND_START, Joint
from schemas.clip import Clip
from schemas.conditions import HAND_POINTS, Label, PersonTrack
from schemas.stage import Stage
from tests.curation.degrade import from_pictures
from tests.preprocess.dwpose.networks import detector_file, estimator_file
from tests.preprocess.hamer.synthetic import write_files
from tests.preprocess.worn import DRAWN, drawn_labels, drawn_pose, no_hands

HEIGHT, WIDTH, FPS = 832, 624, 24
YOLOX_LAYERS, DWPOSE_LAYERS = 10, 5
"""Convolutions that make the synthetic networks of DWPose cost about what the published ones do."""


@dataclass(frozen=True)
class Measured:
    """What one stage took: seconds of one clip, peak memory in bytes, operations (multiply-adds count twice)."""

    seconds: float
    memory: int
    operations: int


def drawn_clip(folder: Path, *, seconds: float, scale: int) -> Clip:
    """A drawn person with a hand on the belly before a textured wall, and the conditions that stages need."""
    import cv2

    size = (WIDTH // scale, HEIGHT // scale)
    count = round(seconds * FPS)
    labels = drawn_labels(1)[0]
    labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 160, (*labels.shape, 3), dtype=np.uint8)
    picture[labels > 0] = (20, 250, 20)  # what the synthetic DWPose takes for a person
    clip = from_pictures(np.stack([np.roll(picture, frame, 1) for frame in range(count)]), folder / "clip.mp4", fps=FPS)
    rows, columns = (labels > 0).any(1).nonzero()[0], (labels > 0).any(0).nonzero()[0]
    box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.float32)
    moved = np.arange(count, dtype=np.float32)
    pose = drawn_pose(count)
    pose.keypoints[:] *= np.array(size, np.float32) / (DRAWN[1], DRAWN[0])
    for start, wrist in zip(HAND_START, (Joint.LEFT_WRIST, Joint.RIGHT_WRIST), strict=True):
        hand = slice(start, start + HAND_POINTS)
        pose.keypoints[:, hand] = pose.keypoints[:, [wrist]] + rng.uniform(-1, 1, (HAND_POINTS, 2)) * size[0] * 0.06
        pose.scores[:, hand] = 0.9
    pose.keypoints[..., 0] += moved[:, None]
    clip.artifacts |= {
        "person": PersonTrack(
            box + moved[:, None] * np.array([1, 0, 1, 0], np.float32),
            np.ones(count, np.float32),
            np.ones(count, np.uint8),
        ),
        "pose": pose,
        "hands": no_hands(count),
        "parsing": np.stack([np.roll(labels, frame, 1) for frame in range(count)]),
    }
    assert (clip.artifacts["parsing"] == Label.UPPER_CLOTHES).any()
    return clip


def stages(folder: Path, *, small: bool, device: str) -> Iterator[tuple[str, Callable[[], Stage]]]:
    """The stages by name, each made, with its files, when it is its turn."""

    def dwpose() -> Stage:
        layers = (0, 0) if small else (YOLOX_LAYERS, DWPOSE_LAYERS)
        return DWPose(
            detector=str(detector_file(folder / "yolox_l.onnx", layers=layers[0])),
            estimator=str(estimator_file(folder / "dwpose.onnx", layers=layers[1])),
            device="auto" if device == "auto" else device,  # type: ignore[arg-type]
        )

    def densepose() -> Stage:
        file = folder / "densepose.pkl"
        file.write_bytes(pickle.dumps({"model": densepose_weights(deeplab=False)}))
        return DensePose(checkpoint=str(file), device=device, min_size=256 if small else 800)

    def hands() -> Stage:
        files = write_files(folder)
        if not small:
            state = random_network(torch.device("cpu"), torch.float32).state_dict()
            torch.save({"state_dict": state}, files.checkpoint)
            files.config.write_text(_FULL_HAMER)
        paths = {"checkpoint": files.checkpoint, "checkpoint_config": files.config, "mano": files.mano}
        return HamerHands(**{name: str(path) for name, path in paths.items()}, device=device)

    def segmentation(model: Any, size: tuple[int, int], name: str) -> Stage:
        return Segmentation(model=saved(model, folder / name, size), device=device)

    def track() -> Stage:
        import transformers

        model = transformers.Sam2VideoModel(transformers.Sam2VideoConfig())
        return GarmentTrack(model=saved(model, folder / "sam2", (1024, 1024)), device=device)

    yield "pose", dwpose
    yield "densepose", densepose
    yield "hands", hands
    yield "parsing (SegFormer)", lambda: segmentation(segformer(small=small), (512, 512), "segformer")
    yield "parsing (Sapiens2)", lambda: segmentation(sapiens2(small=small), (1024, 768), "sapiens2")
    if not small:
        yield "garment_track (SAM 2.1)", track


_FULL_HAMER = """
MODEL:
  IMAGE_SIZE: 256
  BACKBONE: {TYPE: vit}
  MANO_HEAD: {TYPE: transformer_decoder, IN_CHANNELS: 2048, TRANSFORMER_DECODER: {depth: 6, heads: 8, mlp_dim: 1024,
    dim_head: 64, dropout: 0.0, emb_dropout: 0.0, norm: layer, context_dim: 1280}}
EXTRA: {FOCAL_LENGTH: 5000}
"""


def _linear(rows: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(rows) * weight[0]


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


WHOLE = {torch.ops.aten.linear: _linear, torch.ops.aten.scaled_dot_product_attention: _attention}
"""Operations that torch does not take apart in inference, and so would not count."""


def measure(stage: Stage, clip: Clip) -> Measured:
    """Second of two runs; operations are counted in a third."""
    cuda = torch.cuda.is_available()
    stage.setup()
    stage.process(clip)
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    stage.process(clip)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated() if cuda else 0
    with FlopCounterMode(display=False, custom_mapping=WHOLE) as counter:
        stage.process(clip)
    return Measured(seconds, memory, counter.get_total_flops())


def peak(device: torch.device, *, side: int) -> float:
    """Operations a second of square matrix products, in half precision on a GPU."""
    kind = torch.float16 if device.type == "cuda" else torch.float32
    matrix = torch.rand(side, side, device=device, dtype=kind)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of the clip")
    parser.add_argument("--stages", default="", help="only those whose names begin so, by commas")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="small networks and pictures")
    options = parser.parse_args()
    cuda = torch.cuda.is_available() and options.device in ("auto", "cuda")
    device = torch.device("cuda" if cuda else "cpu")
    most = peak(device, side=8192 if cuda else 1024)
    print(f"\n{torch.cuda.get_device_name() if cuda else 'CPU'}: {most / 1e12:.2f} TFLOP/s in matrix products\n")
    print("| stage | frames a second | GB | TFLOP a frame | of the peak |\n|---|---|---|---|---|")
    wanted = tuple(options.stages.split(","))
    with tempfile.TemporaryDirectory() as folder:
        clip = drawn_clip(Path(folder), seconds=options.seconds, scale=4 if options.small else 1)
        frames(clip)  # decoded once, for all
        for name, make in stages(Path(folder), small=options.small, device=options.device):
            if not name.startswith(wanted):
                continue
            measured = measure(make(), clip)
            count = clip.span.frames
            share = f"{measured.operations / measured.seconds / most:.0%}" if measured.operations else "not counted"
            print(
                f"| {name} | {count / measured.seconds:.1f} | {measured.memory / 1e9:.2f} "
                f"| {measured.operations / count / 1e12:.3f} | {share} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
