"""What Guider, A-RoPE and action-aware loss are good for, on a task made to need them.

    python -m benchmarks.ablation [--steps 300] [--seeds 3] [--processes 2] [--out ablation.json]

The task is `benchmarks.ablation_task`. The model is `ITryOn` on a small random WanVACE, trained whole by the training
loop's own step and optimiser. Variants of a seed share the task, first weights, clips in their order, and noise, so
what lies between them is what they differ in. Measured is the mean squared error of the velocity on clips that were
not trained on, at noise levels as in training, less what even a perfect model would have.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from benchmarks.ablation_task import TEXT_WIDTH, World
from training import flow
from training.model.backbone import vace_transformer
from training.model.itryon import ITryOn
from training.model.settings import ModelSettings
from training.optimisation import learning_rate, make_optimiser
from training.step import losses_at
from training.train_settings import LossSettings, OptimiserSettings

ALL = "all"
NETWORK: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 24, "ffn_dim": 192, "num_layers": 2, "vace_layers": [0, 1],
    "vace_in_channels": 96, "text_dim": TEXT_WIDTH,
}  # fmt: skip
OPTIMISER = OptimiserSettings(lr=6e-3, warmup_steps=30, decay="cosine")
BATCH = 8
HELD_OUT = range(1_000, 1_128)
"""Seeds of clips. Those trained on are above, those of worlds below."""
_NOISE = 1 << 31
"""The seed of a clip's noise is so much above its own: drawn from one seed, they would be alike."""


@dataclass(frozen=True)
class Variant:
    """Fields of the model's settings that are not as by default, and λ of the loss."""

    model: dict[str, Any]
    action_weight: float = LossSettings().action_weight


VARIANTS = {
    ALL: Variant({}),
    "without Guider": Variant({"guider": False}),
    "without A-RoPE": Variant({"positions": "none"}),
    "without action-aware loss": Variant({}, action_weight=0),
    "ReRoPE for A-RoPE": Variant({"positions": "rerope"}),
    "segment mask for A-RoPE": Variant({"positions": "none", "segment_mask": True}),
}


@dataclass(frozen=True)
class Run:
    """One variant trained: errors above the least possible, of interactive latent frames and of others."""

    variant: str
    seed: int
    interactive: float
    other: float
    least: float
    seconds: float


def trained_and_measured(variant: str, seed: int, *, steps: int) -> Run:
    """Train `variant` for so many steps on the task of `seed`, and measure it."""
    start, world = time.perf_counter(), World.drawn(seed)
    with _one_thread():
        model = small_model(seed, **VARIANTS[variant].model)
        train(model, world, seed, steps=steps, settings=LossSettings(action_weight=VARIANTS[variant].action_weight))
        interactive, other, least = held_out_errors(model, world)
    return Run(variant, seed, interactive - least, other - least, least, time.perf_counter() - start)


def small_model(seed: int, **fields: Any) -> ITryOn:
    torch.manual_seed(seed)
    backbone = vace_transformer()(**NETWORK)
    for block in backbone.vace_blocks:  # as VACE starts; diffusers leaves it to whoever trains
        torch.nn.init.zeros_(block.proj_out.weight)
        torch.nn.init.zeros_(block.proj_out.bias)
    return ITryOn(backbone, ModelSettings(base="random", train="full", text_length=12, **fields))


def train(model: ITryOn, world: World, seed: int, *, steps: int, settings: LossSettings) -> None:
    optimiser = make_optimiser(model.trainable_parameters(), OPTIMISER)
    first = HELD_OUT.stop + seed * 1_000_000
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(OPTIMISER, step=step, steps=steps)
        clips = range(first + step * BATCH, first + (step + 1) * BATCH)
        encoded = world.clips(clips)
        sigma, noise = drawn(clips, encoded.latents, shift=settings.shift)
        losses_at(model, encoded, sigma=sigma, noise=noise, settings=settings).total.backward()
        torch.nn.utils.clip_grad_norm_(model.trainable_parameters(), OPTIMISER.max_grad_norm)
        optimiser.step()
        optimiser.zero_grad()


@torch.no_grad()
def held_out_errors(model: ITryOn, world: World) -> tuple[float, float, float]:
    """Of interactive latent frames, of others (without the reference), and the least that is possible for either."""
    encoded = world.clips(HELD_OUT)
    sigma, noise = drawn(HELD_OUT, encoded.latents, shift=LossSettings().shift)
    predicted = model(flow.noisy(encoded.latents, noise, sigma=sigma), sigma, encoded.conditions).velocity
    error = (predicted - flow.velocity(encoded.latents, noise)).square().mean((1, 3, 4))[:, 1:]
    interactive = encoded.interactive[:, 1:].bool()
    # Clips count alike, however many frames they have of a kind: so the least error is the same for both kinds.
    by_clip = [(each[acts].mean(), each[~acts].mean()) for each, acts in zip(error, interactive, strict=True)]
    acting, others = (float(torch.stack(values).mean()) for values in zip(*by_clip, strict=True))
    return acting, others, float(world.least_error(sigma).mean())


def drawn(clips: Sequence[int], latents: Tensor, *, shift: float) -> tuple[Tensor, Tensor]:
    return flow.draw(torch.tensor(clips) + _NOISE, latents.shape[1:], shift=shift)


@contextmanager
def _one_thread() -> Iterator[None]:
    """For networks this small two processes are faster than two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def table(runs: Sequence[Run]) -> str:
    """Means over seeds, and differences to the variant with all of it, seed by seed."""
    interactive = {(run.variant, run.seed): run.interactive for run in runs}
    lines = [
        "| variant | interactive frames | to all, seed by seed | other frames |",
        "| --- | --- | --- | --- |",
    ]
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        apart = ", ".join(
            f"{run.interactive - interactive[ALL, run.seed]:+.3f}"
            for run in own
            if variant != ALL and (ALL, run.seed) in interactive
        )
        lines.append(
            f"| {variant} | {mean(run.interactive for run in own):.3f} | {apart} "
            f"| {mean(run.other for run in own):.3f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="by commas")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON of all runs")
    options = parser.parse_args(arguments)
    variants = options.variants.split(",")
    if unknown := [name for name in variants if name not in VARIANTS]:
        parser.error(f"no variants {', '.join(unknown)}: there are {', '.join(VARIANTS)}")

    seeds, names = zip(*product(range(options.seeds), variants), strict=True)
    runs = []
    for run in _each(names, seeds, steps=options.steps, processes=options.processes):
        runs.append(run)
        print(f"{run.variant}, seed {run.seed}: {run.interactive:.4f}, {run.seconds:.0f} s", flush=True)
    least = mean(run.least for run in runs)
    print(f"\nMean squared error above the least possible, {least:.3f}, after {options.steps} steps\n\n{table(runs)}")
    if options.out:
        options.out.write_text(json.dumps({"steps": options.steps, "runs": [asdict(run) for run in runs]}, indent=1))


def _each(variants: Sequence[str], seeds: Sequence[int], *, steps: int, processes: int) -> Iterator[Run]:
    run = partial(trained_and_measured, steps=steps)
    if processes == 1:
        yield from map(run, variants, seeds)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(run, variants, seeds)


if __name__ == "__main__":
    main()
