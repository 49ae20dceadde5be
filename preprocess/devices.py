"""Where torch models of the full tier run, and in which precision."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from media.frames import frames
from schemas.clip import Clip
from schemas.errors import ConfigError

if TYPE_CHECKING:
    import torch

_last: dict[str, tuple[tuple[str, int], torch.Tensor]] = {}
"""Device → the frames uploaded there last, and by (key, bytes) whose they are."""

Precision = Literal["auto", "float32", "float16", "bfloat16"]


def torch_device(wanted: str = "auto") -> torch.device:
    """The device that `wanted` names, as torch does; "auto" is the GPU where there is one.

    Raises:
        ConfigError: there is no such device here.

    """
    import torch

    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"torch cannot use the device {wanted!r}: {str(error).splitlines()[0]}",
            allowed="auto, cpu" + (", cuda" if torch.cuda.is_available() else ""),
        ) from error
    return device


def torch_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """The dtype that weights and activations have; "auto" is float16 on a GPU and float32 elsewhere."""
    import torch

    if wanted == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[wanted]


def frames_on(clip: Clip, device: torch.device) -> torch.Tensor:
    """(T, H, W, 3) uint8 RGB frames of `clip` on `device`, uploaded once for all stages that run there in turn.

    Not to be written to: stages share them.
    """
    import torch

    identity = (clip.key, len(clip.artifacts["video"]))
    kept = _last.get(str(device))
    if kept and kept[0] == identity:
        return kept[1]
    _last.pop(str(device), None)  # before the next are uploaded: both may not fit
    with warnings.catch_warnings(
        action="ignore", category=UserWarning
    ):  # the array is read-only, as the tensor is to be
        images = torch.from_numpy(frames(clip).images).to(device)
    if device.type != "cpu":  # there it is the decoded frames themselves, which `frames` keeps
        _last[str(device)] = identity, images
    return images
