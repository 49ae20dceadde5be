"""SSIM, LPIPS, VFID and FVD of generated videos beside the real ones. Conventions that they follow: docs/evaluation.md.

Shape legend: N frames, T frames of a clip, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import weights
from schemas.conditions import Bool, UInt8
from schemas.errors import ConfigError, MissingExtraError
from training import bootstrap
from training.bootstrap import Estimate
from training.compared import Compared, check_all, open_compared
from training.features.i3d import I3D
from training.features.lpips import LPIPS
from training.features.resnext import MEAN, ResNeXt101
from training.frechet import Moments, frechet_distance
from training.quality_report import Distance, Part, PartScores, QualityReport, SampleScores
from training.quality_settings import QualitySettings
from training.shards import read_index
from weights.torchvision_operators import declare_missing_operators

PARTS: tuple[Part, Part] = ("all", "interactive")
_RADIUS = 5
"""Pixels from the middle of SSIM's window to its edge."""
Values = NDArray[np.float64]
Prepare = Callable[[Tensor], Tensor]
"""(3, T, H, W) float 0..255 RGB → what a network takes, of the same shape."""


@torch.inference_mode()
def measure(
    dataset: str, generated: str, *, settings: QualitySettings, split: str = "test", paired: bool = True
) -> QualityReport:
    """Measure `generated`/KEY.mp4 for every sample of a split.

    Videos are decoded side by side and a few frames at a time, so that memory grows neither with their number nor with
    their length.

    Args:
        dataset: folder or URL that `vvt build` wrote.
        generated: folder or URL of the videos.
        settings: how.
        split: of the dataset.
        paired: each person wears their own garment again; else only distributions are compared (VFID, FVD).

    Raises:
        EvaluationError: a generated video is absent, broken, or of another length or shape: all are named beforehand.
        DatasetError: a sample is damaged, or the split is empty.
        WeightsError, MissingExtraError, ConfigError: a network cannot be had.

    """
    device = _device(settings)
    framewise = _framewise(settings, device) if paired else {}
    clipwise = clip_distances(settings, device)
    entries = read_index(dataset, split=split)
    check_all(list(entries), generated, frames=settings.frames)
    samples = [
        _measure(open_compared(entry, generated, frames=settings.frames), framewise, clipwise, settings)
        for entry in entries
    ]
    used = ("i3d", "resnext", "lpips") if paired else ("i3d", "resnext")
    return QualityReport(
        dataset=dataset,
        split=split,
        generated=generated,
        paired=paired,
        settings=settings,
        weights={name: weights.sha256(file) for name in used if (file := getattr(settings, name))},
        scores={part: _part_scores(part, samples, clipwise, seed=settings.seed) for part in PARTS},
        samples=tuple(samples),
    )


def ssim(real: Tensor, generated: Tensor) -> Tensor:
    """SSIM of (N, 3, H, W) float 0..1 pictures → (N,), over the channels of RGB alike.

    That of Wang et al. 2004, and of scikit-image: Gaussian window of 11×11 px, σ 1.5, where it lies in the picture.
    torchmetrics computes the map; its own mean takes in the border too, where the window sees reflected pixels.

    Raises:
        MissingExtraError: torchmetrics is not installed.

    """
    declare_missing_operators()  # torchmetrics imports torchvision where there is one
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "train", purpose="SSIM") from error
    _, similarity = structural_similarity_index_measure(
        generated, real, data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    return similarity[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean((1, 2, 3))


# ---- networks


@dataclass(eq=False)
class ClipDistance:
    """Fréchet distance of real and generated clips, gathered video by video.

    Attributes:
        network: (1, 3, T, H, W) → (1, D).
        frames: T. Clips follow each other without overlap; what is left of a video is not seen.
        prepare: what the network is given.
        device: where it runs.

    """

    network: I3D | ResNeXt101
    frames: int
    prepare: Prepare
    device: torch.device
    moments: dict[tuple[Part, str], Moments] = field(default_factory=dict)
    _waiting: list[tuple[UInt8, UInt8, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = self.network.to(self.device)
        self.moments = {(part, kind): Moments(self.network.width) for part in PARTS for kind in ("real", "generated")}

    def start(self) -> None:
        """Begin another video."""
        self._waiting.clear()

    def add(self, real: UInt8, generated: UInt8, labels: Bool) -> None:
        """Take the next (N, H, W, 3) uint8 RGB frames of either video, and (N,) whether they are interactive."""
        self._waiting += zip(real, generated, labels.tolist(), strict=True)
        while len(self._waiting) >= self.frames:
            clip, self._waiting = self._waiting[: self.frames], self._waiting[self.frames :]
            shown, made, interactive = zip(*clip, strict=True)
            for kind, frames in (("real", shown), ("generated", made)):
                features = self._features(np.stack(frames))
                for part in PARTS if any(interactive) else PARTS[:1]:
                    self.moments[part, kind].add(features)

    def distance(self, part: Part) -> Distance:
        """Of all clips so far, or of those with an interactive frame."""
        real, generated = self.moments[part, "real"], self.moments[part, "generated"]
        if real.count < 2:
            return Distance(value=None, clips=real.count, note=f"too few clips of {self.frames} frames")
        few = f"no more clips than the {self.network.width} features: compare it on the same clips only"
        return Distance(value=frechet_distance(real, generated), clips=real.count, note=few if real.singular else "")

    def _features(self, frames: UInt8) -> NDArray[np.float32]:
        """(T, H, W, 3) → (1, D)."""
        clip = self.prepare(_planes(frames, self.device).transpose(0, 1))
        features: NDArray[np.float32] = self.network(clip[None]).float().cpu().numpy()
        return features


Framewise = Callable[[Tensor, Tensor], Tensor]
"""Real and generated pictures, (N, 3, H, W) float 0..1 → (N,)."""


def _framewise(settings: QualitySettings, device: torch.device) -> dict[str, Framewise]:
    found: dict[str, Framewise] = {"ssim": ssim}
    if settings.lpips:
        network = LPIPS.load(settings.lpips, backbone=settings.lpips_backbone).to(device)
        found["lpips"] = lambda real, generated: network(real * 2 - 1, generated * 2 - 1)
    return found


def clip_distances(settings: QualitySettings, device: torch.device) -> dict[str, ClipDistance]:
    """Those for which `settings` name weights: vfid_i, vfid_r, fvd. Raises `WeightsError`."""
    as_published = settings.vfid_input == "published"
    unit, kinetics = (_unit_bgr, _unit_bgr) if as_published else (_unit, _less_mean)
    found: dict[str, ClipDistance] = {}
    if settings.i3d:
        found["vfid_i"] = ClipDistance(I3D.load(settings.i3d), settings.vfid_frames, unit, device)
        found["fvd"] = ClipDistance(I3D.load(settings.i3d, output="logits"), settings.fvd_frames, _unit, device)
    if settings.resnext:
        found["vfid_r"] = ClipDistance(ResNeXt101.load(settings.resnext), settings.vfid_frames, kinetics, device)
    return found


def _resized(clip: Tensor, *, side: int) -> Tensor:
    """(3, T, H, W) → (3, T, side, side), stretched as published code does it, and without aliasing."""
    size = (side, side)
    return functional.interpolate(clip.transpose(0, 1), size, mode="bilinear", antialias=True).transpose(0, 1)


def _unit(clip: Tensor) -> Tensor:
    return _resized(clip, side=224) / 127.5 - 1


def _unit_bgr(clip: Tensor) -> Tensor:
    return _unit(clip).flip(0)


def _less_mean(clip: Tensor) -> Tensor:
    return _resized(clip, side=112) - clip.new_tensor(MEAN)[:, None, None, None]


def _planes(frames: UInt8, device: torch.device) -> Tensor:
    """(N, H, W, 3) uint8 → (N, 3, H, W) float32 0..255."""
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).movedim(-1, 1).to(torch.float32)


def _device(settings: QualitySettings) -> torch.device:
    if settings.device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(f"device is {settings.device!r}, and torch sees no GPU", allowed="cpu here")
    return torch.device(settings.device)


# ---- one sample, and all


def _measure(
    compared: Compared, framewise: dict[str, Framewise], clipwise: dict[str, ClipDistance], settings: QualitySettings
) -> SampleScores:
    for each in clipwise.values():
        each.start()
    device = _device(settings)
    values: dict[str, list[Values]] = {name: [] for name in framewise}
    for real, generated, labels in compared.pictures(settings.batch):
        for each in clipwise.values():
            each.add(real, generated, labels)
        for name, metric in framewise.items():
            shown, made = _planes(real, device) / 255, _planes(generated, device) / 255
            values[name].append(metric(shown, made).double().cpu().numpy())
    labels = compared.labels
    means = {name: _means(np.concatenate(found), labels) for name, found in values.items()}
    height, width = compared.fit.target
    return SampleScores(
        key=compared.key,
        frames=compared.frames,
        interactive_frames=int(labels.sum()),
        height=height,
        width=width,
        ssim=means.get("ssim"),
        lpips=means.get("lpips"),
    )


def _means(values: Values, labels: Bool) -> dict[Part, float | None]:
    return {"all": float(values.mean()), "interactive": float(values[labels].mean()) if labels.any() else None}


def _part_scores(
    part: Part, samples: list[SampleScores], clipwise: dict[str, ClipDistance], *, seed: int
) -> PartScores:
    counts = [each.frames if part == "all" else each.interactive_frames for each in samples]
    distances = {name: each.distance(part) for name, each in clipwise.items()}
    return PartScores(
        samples=sum(count > 0 for count in counts),
        frames=sum(counts),
        ssim=_mean([each.ssim for each in samples], part, seed=seed),
        lpips=_mean([each.lpips for each in samples], part, seed=seed),
        vfid_i=distances.get("vfid_i"),
        vfid_r=distances.get("vfid_r"),
        fvd=distances.get("fvd"),
    )


def _mean(found: list[dict[Part, float | None] | None], part: Part, *, seed: int) -> Estimate | None:
    values = [value for each in found if each and (value := each[part]) is not None]
    return bootstrap.mean(np.array(values), seed=seed) if values else None
