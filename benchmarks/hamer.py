"""HaMeR's network at full size, random weights: seconds a crop, against HaMeR's own and against bare matrix products.

    python -m benchmarks.hamer --threads 1 --batches 1,8

HaMeR's own figure is that of `../shared/golden`: float32, one thread of another machine, one crop at a time. The floor
is of this machine and run: products of matrices as large as the network's, as many of them as it multiplies.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from preprocess.devices import torch_device, torch_dtype
from preprocess.hamer.crop import crop_hand, square_around
from preprocess.hamer.network import HamerNetwork, Sizes

HAMER_S = 2.40
"""Seconds a crop of HaMeR's own ViT-H forward pass: batch 1, float32, one thread."""
TOKENS, SIZES = 192, Sizes()


def random_network(device: torch.device, dtype: torch.dtype) -> HamerNetwork:
    with torch.device("meta"):
        network = HamerNetwork(SIZES)
    network.backbone.to(dtype)
    network.to_empty(device=device).requires_grad_(requires_grad=False)
    for tensor in network.state_dict().values():
        tensor.uniform_(-0.02, 0.02)
    return network.eval()


def seconds(work: Callable[[], object], *, repeats: int, device: torch.device) -> float:
    """Median of `repeats` after one run that does not count."""
    spent = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent[1:]))


def floor_of(batch: int, *, repeats: int, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds that the products of the backbone's blocks take alone."""
    tokens = torch.rand(batch * TOKENS, SIZES.dim, device=device).to(dtype)
    weight = torch.rand(SIZES.dim, 4 * SIZES.dim, device=device).to(dtype)
    one = seconds(lambda: [tokens @ weight for _ in range(3)], repeats=repeats, device=device)
    return one * SIZES.depth  # qkv, the projection and the MLP: 12 dim², three such products


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "float16", "bfloat16"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch_device(options.device)
    dtype = torch_dtype(options.precision, device)
    network = random_network(device, dtype)
    print(f"\nViT-H, {device}, {dtype}, {options.threads} thread(s)\n")
    print("| batch | s a crop | crops a second | HaMeR's own / ours | matrix products / ours |")
    print("|---|---|---|---|---|")
    with torch.inference_mode():
        for batch in map(int, options.batches.split(",")):
            crops = torch.rand(batch, 3, 256, 256, device=device)
            ours = seconds(lambda crops=crops: network(crops), repeats=options.repeats, device=device)  # type: ignore[misc]
            floor = floor_of(batch, repeats=options.repeats, device=device, dtype=dtype)
            own = f"{HAMER_S * batch / ours:.2f}"
            print(f"| {batch} | {ours / batch:.3f} | {batch / ours:.2f} | {own} | {floor / ours:.2f} |", flush=True)
    if device.type == "cuda":
        print(f"\npeak of the GPU's memory {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB")
    print("\n| crop | ms |\n|---|---|")
    for width, height, box in (
        (640, 480, (300, 200, 390, 310)),
        (640, 480, (100, 90, 390, 330)),
        (1920, 1080, (600, 300, 900, 600)),
    ):
        image = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
        square = square_around(np.array(box))
        spent = seconds(
            lambda image=image, square=square: crop_hand(image, square, right=False),
            repeats=20,
            device=torch.device("cpu"),
        )  # type: ignore[misc]
        kind = "blurred" if square.size / 512 > 1.1 else "unblurred"
        print(f"| {width}x{height}, {kind}, {square.size:.0f} px | {1000 * spent:.1f} |")


if __name__ == "__main__":
    main()
