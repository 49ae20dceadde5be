"""A training step of the 1.3B shape on one card: time, tokens a second, model FLOP utilisation, memory.

    python -m benchmarks.training_gpu [--size 81x576x768] [--size 49x480x832] [--batch 1] [--steps 8]

The whole step: noise, forward, flow loss with the action constraint, backward, fused AdamW on Context Blocks and
Guider, whose weights are float32 beside the frozen backbone's bfloat16, under autocast. Weights and conditions are
random; data loading, VAE and text encoder are not part of it. Each size runs without checkpointing, with it, and with
it but for self-attention; compiled and not; with each of torch's attention kernels. Where memory runs out the row says
so.

Utilisation is `benchmarks.training_flops` over time, as a share of the card's dense bfloat16 peak by its data sheet,
and of what products of large square matrices reach in the same run. `--tiny` shows on any machine that all of it runs.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.training_flops import Size, step_flops
from training import flow
from training.losses import flow_loss
from training.model.backbone import vace_transformer
from training.model.inputs import Captions, Conditions, Segments
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings

SHAPES: dict[str, dict[str, Any]] = {
    "1.3B": {
        "num_attention_heads": 12, "attention_head_dim": 128, "ffn_dim": 8960, "num_layers": 30,
        "vace_layers": list(range(0, 30, 2)), "text_dim": 4096,
    },
    "tiny": {
        "num_attention_heads": 2, "attention_head_dim": 24, "ffn_dim": 96, "num_layers": 4, "vace_layers": [0, 2],
        "text_dim": 32,
    },
}  # fmt: skip
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12}
"""Dense bfloat16 operations a second by NVIDIA's data sheets (the SXM kind of H100 and H200), by a part of the name."""
KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


CHECKPOINTING = {
    "attention kept": {"gradient_checkpointing": True},
    "all again": {"gradient_checkpointing": True, "keep_attention": False},
    "none": {},
}
CHOICE = "torch's choice"


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    checkpointing: str
    compiled: str
    kernel: str


def random_model(shape: str, *, checkpointing: str, device: torch.device) -> ITryOn:
    """Random weights on `device`: those that train in float32, others as a loaded bfloat16 checkpoint has them."""
    torch.manual_seed(0)
    with device:
        backbone = vace_transformer()(**SHAPES[shape])
    kept = set(backbone._keep_in_fp32_modules)
    for name, parameter in backbone.named_parameters():
        if not kept & set(name.split(".")):
            parameter.data = parameter.data.bfloat16()
    model = ITryOn(backbone, ModelSettings(base="random", **CHECKPOINTING[checkpointing])).to(device)
    for parameter in model.trainable_parameters():
        parameter.data = parameter.data.float()
    return model


def random_batch(
    model: ITryOn, *, frames: int, height: int, width: int, batch: int, device: torch.device
) -> tuple[torch.Tensor, Conditions]:
    """Clean latents and conditions of a video with one action in its middle third."""
    latent = (frames + 3) // 4
    shape = (1 + latent, height // 8, width // 8)
    third = latent // 3
    bounds = [0, third, 2 * third, latent]
    of_frame = [-1] + [segment for segment in range(3) for _ in range(bounds[segment], bounds[segment + 1])]

    def random(*size: int) -> torch.Tensor:
        return torch.randn(batch, *size, device=device, dtype=torch.bfloat16)

    captions = Captions(
        tokens=random(120, model.backbone.config.text_dim),
        mask=torch.ones(batch, 120, dtype=torch.bool, device=device),
        segments=torch.tensor([[-1] * 100 + [1] * 20] * batch, device=device),
    )
    segments = Segments(
        frames=torch.tensor([of_frame] * batch, device=device),
        interactive=torch.tensor([[False, True, False]] * batch, device=device),
        bounds=torch.tensor([[[bounds[i], bounds[i + 1]] for i in range(3)]] * batch, device=device).float(),
    )
    conditions = Conditions(context=random(96, *shape), hands=random(16, *shape), captions=captions, segments=segments)
    return torch.randn(batch, 16, *shape, device=device), conditions


class Step:
    """A training step, to be repeated."""

    def __init__(self, model: ITryOn, clean: torch.Tensor, conditions: Conditions) -> None:
        self.model, self.clean, self.conditions = model, clean, conditions
        self.optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=5e-5, fused=True)
        self.interactive = (conditions.segments.frames == 1).float()

    def __call__(self) -> None:
        noise = torch.randn_like(self.clean)
        sigma = flow.shifted(torch.rand(len(self.clean), device=self.clean.device), shift=5.0)
        noisy = flow.noisy(self.clean, noise, sigma=sigma)
        with torch.autocast(self.clean.device.type, dtype=torch.bfloat16):
            predicted = self.model(noisy, sigma, self.conditions).velocity
        flow_loss(predicted, flow.velocity(self.clean, noise), self.interactive).total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def seconds_of(step: Step, *, steps: int, device: torch.device) -> float:
    """Median of `steps`, after three to warm up: allocator, compilation, states of the optimizer."""
    times = []
    for number in range(3 + steps):
        if number == 3 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def measured_peak(device: torch.device) -> float:
    """Operations a second of products of square bfloat16 matrices: the best of ten."""
    side = 8192 if device.type == "cuda" else 512
    matrix, best = torch.randn(side, side, device=device, dtype=torch.bfloat16), float("inf")
    for _ in range(10):
        start = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


@contextmanager
def attention(kernel: str) -> Iterator[None]:
    """Within it, attention runs with that of torch's kernels, or with torch's own choice."""
    if kernel == CHOICE:
        yield
    else:
        with sdpa_kernel(KERNELS[kernel]):
            yield


def row(way: Way, options: argparse.Namespace, size: tuple[int, int, int], peaks: tuple[float | None, float]) -> str:
    """One row of the table."""
    device = torch.device("cpu" if options.tiny else "cuda")
    frames, height, width = size
    head = f"| {frames}×{height}×{width} | {way.checkpointing} | {way.compiled} | {way.kernel}"
    try:
        model = random_model("tiny" if options.tiny else "1.3B", checkpointing=way.checkpointing, device=device)
        if way.compiled == "yes":
            model.compile_blocks()
        clean, conditions = random_batch(
            model, frames=frames, height=height, width=width, batch=options.batch, device=device
        )
        with attention(way.kernel):
            seconds = seconds_of(Step(model, clean, conditions), steps=options.steps, device=device)
    except torch.OutOfMemoryError:
        return f"{head} | out of memory | | | | |"
    tokens = clean[0, 0].numel() // 4
    flops = step_flops(Size.of(model.backbone.config, video=tokens, text=512, batch=options.batch))
    sheet, most = peaks
    memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f}" if device.type == "cuda" else "–"
    utilisation = f"{flops / seconds / sheet:.1%}" if sheet else "–"
    return (
        f"{head} | {seconds * 1e3:,.0f} | {tokens * options.batch / seconds:,.0f} | {utilisation} | "
        f"{flops / seconds / most:.1%} | {memory} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument(
        "--size", action="append", help="frames×height×width, written with x; more than one may be given"
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="measured ones")
    parser.add_argument("--checkpointing", default=",".join(CHECKPOINTING), help="by commas")
    parser.add_argument("--compiled", default="no,yes", help="by commas")
    parser.add_argument("--kernels", default=",".join([CHOICE, *KERNELS]), help="of attention, by commas")
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU, to see that it runs")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA card here; --tiny runs without")
    sizes = options.size or (["17x64x96"] if options.tiny else ["81x576x768", "49x480x832"])
    device = torch.device("cpu" if options.tiny else "cuda")
    name = "CPU" if options.tiny else torch.cuda.get_device_name()
    sheet = next((peak for part, peak in PEAKS.items() if part in name), None)
    most = measured_peak(device)
    by_sheet = f", {sheet / 1e12:.0f} by the data sheet" if sheet else ""
    print(f"\n{name}, torch {torch.__version__}: {most / 1e12:.2f} TFLOP/s in matrix products{by_sheet}\n")
    print("| video | checkpointing | compiled | attention | step, ms | tokens/s | MFU | of the products' rate | GiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    kernels = CHOICE if options.tiny else options.kernels
    ways = itertools.product(*(wanted.split(",") for wanted in (options.checkpointing, options.compiled, kernels)))
    for size, way in itertools.product(sizes, ways):
        frames, height, width = (int(part) for part in size.split("x"))
        print(row(Way(*way), options, (frames, height, width), (sheet, most)), flush=True)
        torch.compiler.reset()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
