"""DensePose on the published picture sizes, against detectron2's published seconds per picture.

    python -m benchmarks.densepose [--device cuda] [--precision float16] [--batch 8] [--repeat 5] [--least]

Those do not count resizing, ours do. The weights are synthetic: those of the golden rule where ../shared is there, else
drawn by one of our own. Three ways, in turn in the same run: "track" is what the stage does by default (the person's
box is known), "detector" finds people first and reads one of them, and "plain" does that as detectron2 does, on whole
feature maps in torch's default memory layout: what is gained over it holds on any machine, however busy.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from preprocess.densepose.model import DensePoseRCNN, network_of
from preprocess.densepose.pictures import network_input, resized_size
from preprocess.densepose.reader import SurfaceReader
from preprocess.densepose.regions import Windows, roi_align
from preprocess.densepose.surface import resample
from preprocess.devices import torch_device, torch_dtype

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "densepose"
PUBLISHED = {
    (False, (256, 192), 800): 2.17, (False, (320, 320), 800): 1.66, (False, (256, 192), 256): 0.47,
    (True, (256, 192), 800): 2.30, (True, (320, 320), 800): 1.64, (True, (256, 192), 256): 0.44,
}  # fmt: skip
"""DeepLab or not, picture, shorter side → seconds a picture of detectron2 that keeps one box: 2 threads of an AMD
EPYC virtual machine, float32 (../shared/golden/densepose/README.md)."""


def weights(*, deeplab: bool) -> dict[str, np.ndarray]:
    """Synthetic weights by name."""
    with torch.device("meta"):
        wanted = DensePoseRCNN(deeplab=deeplab).state_dict()
    spec = importlib.util.spec_from_file_location("golden_densepose_weights", GOLDEN / "weights.py")
    if spec is not None and spec.loader is not None and GOLDEN.is_dir():
        rule = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(rule)
        return {name: rule.synth(name, tensor.shape) for name, tensor in wanted.items()}
    draw = np.random.default_rng(0)
    values = {}
    for name, tensor in wanted.items():
        value = draw.uniform(-1, 1, tensor.shape).astype(np.float32)
        fan = max(1, tensor[:1].numel())
        values[name] = value * np.float32(2.4 / fan**0.5) if tensor.ndim > 1 else 0.7 + 0.1 * value
    return values


def plain(network: DensePoseRCNN, images: torch.Tensor, boxes: torch.Tensor, side: int) -> None:
    """Like `SurfaceReader.read` with a detector, nothing left out."""
    height, width = images.shape[1:3]
    size = resized_size(height, width, shortest=side)
    pictures = network_input(images, size, dtype=network.dtype).contiguous()
    pyramid = network.finish(network.features(pictures))
    network.detect(pyramid, size)
    rows, columns = pyramid.levels[3].shape[2:]
    whole = Windows.everything(len(images), (rows, columns))
    decoded = network.roi_heads.decoder(pyramid.levels, whole)
    given = boxes * boxes.new_tensor([size[1] / width, size[0] / height] * 2)
    pooled = roi_align(decoded, given, torch.arange(len(images), device=images.device), stride=4, size=28)
    surfaces = network.roi_heads.densepose_predictor(network.roi_heads.densepose_head(pooled))
    for number, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        resample(surfaces, number, (y1 - y0, x1 - x0))


def seconds(
    works: Mapping[str, Callable[[], object]], *, repeat: int, least: bool, device: torch.device
) -> dict[str, float]:
    """Median (or least) time of `repeat` calls of each, in turn, after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeat + 1):
        for name, work in works.items():
            start = time.perf_counter()
            with torch.inference_mode():
                work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)
    middle = min if least else statistics.median
    return {name: middle(spent[1:]) for name, spent in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "float16", "bfloat16"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--least", action="store_true", help="the least time of all, not the median: on a busy machine")
    parser.add_argument("--deeplab", action="store_true", help="the DeepLab head instead of the plain one")
    options = parser.parse_args()
    device = torch_device(options.device)
    dtype = torch_dtype(options.precision, device)
    network = network_of(weights(deeplab=options.deeplab), where="benchmark").to(device, dtype)
    as_published = network_of(weights(deeplab=options.deeplab), where="benchmark").to(device, dtype)
    as_published.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    print(f"\n{device}, {dtype}, {torch.get_num_threads()} threads, batch {options.batch}\n")
    print("| picture | shorter side | way | s a picture | over plain | detectron2 published, s | over published |")
    print("|---|---|---|---|---|---|---|")
    for (deeplab, (height, width), side), published in PUBLISHED.items():
        if deeplab is not options.deeplab:
            continue
        draw = torch.Generator().manual_seed(0)
        coarse = torch.randint(0, 256, (options.batch, height // 16, width // 16, 3), generator=draw, dtype=torch.uint8)
        images = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2).to(device)
        # A person who fills most of the height, as presenters do.
        person = torch.tensor([0.3 * width, 0.05 * height, 0.75 * width, 0.95 * height], device=device)
        boxes = person.repeat(options.batch, 1)
        track, detector = SurfaceReader(network, min_size=side), SurfaceReader(network, min_size=side, detect=True)
        works = {
            "plain": partial(plain, as_published, images, boxes, side),
            "detector": partial(detector.read, images, boxes),
            "track": partial(track.read, images, boxes),
        }
        spent = seconds(works, repeat=options.repeat, least=options.least, device=device)
        for name in works:
            each = spent[name] / options.batch
            ratios = (f"{spent['plain'] / spent[name]:.2f}", published, f"{published / each:.2f}")
            print("|", " | ".join(map(str, (f"{height}x{width}", side, name, f"{each:.3f}", *ratios))), "|", flush=True)


if __name__ == "__main__":
    main()
