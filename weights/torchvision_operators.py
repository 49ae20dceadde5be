"""Makes torchvision importable beside a torch that its compiled operators do not fit.

The package index's torchvision is built for CUDA; beside a CPU torch its library does not load. torchvision passes over
that, but on import it describes two operators of that library (`torchvision/_meta_registrations.py`), which fails as
they do not exist. Once they are declared, all of it that is plain torch works: what the processors of transformers and
qwen-vl-utils use. The compiled operators themselves stay absent: calling one raises NotImplementedError.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_DESCRIBED_ON_IMPORT = ("nms", "qnms")

_declared: list[Any] = []
"""Libraries of torch, which take their operators with them when they go."""


def declare_missing_operators() -> None:
    """To be called in each process before anything imports torchvision. Does nothing where its operators load."""
    import torch

    spec = find_spec("torchvision")
    if _declared or "torchvision" in sys.modules or spec is None or _loads(spec.origin):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _DESCRIBED_ON_IMPORT:
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)


def _loads(package: str | None) -> bool:
    """Load the compiled library of the torchvision whose `__init__.py` is `package`; whether that worked."""
    import torch

    files = list(Path(package or "").parent.glob("_C.*"))
    try:
        for file in files:
            torch.ops.load_library(str(file))
    except OSError:
        return False
    return bool(files)
