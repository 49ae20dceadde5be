"""Checkpoints of others: read without running what is in them, and loaded whole or not at all."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from schemas.errors import WeightsError

if TYPE_CHECKING:
    import torch

_NUMPY = {
    ("numpy", "ndarray"), ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("collections", "OrderedDict"), ("_codecs", "encode"),
}  # fmt: skip
_NAMED = 8
"""Most keys that an error names of each kind."""


def read_pickle(
    source: Path | IO[bytes],
    *,
    admit: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
    encoding: str = "ASCII",
) -> Any:
    """What is pickled in `source`: plain values and numpy arrays. A pickle may run code: nothing else is admitted.

    Args:
        source: a file.
        admit: (module, name) → what stands for it, for pickles that hold more.
        encoding: of strings that Python 2 wrote, "latin1" where they are arrays.

    Raises:
        WeightsError: it names something that is not admitted, or is no pickle.

    """
    admitted = dict(admit or {})

    class Restricted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) in admitted:
                return admitted[module, name]
            if (module, name) in _NUMPY:
                return super().find_class(module.replace("numpy.core", "numpy._core"), name)
            raise WeightsError(
                f"the pickle asks for {module}.{name}, which is not admitted: it may run code", where=str(source)
            )

    file = io.BytesIO(source.read_bytes()) if isinstance(source, Path) else source
    try:
        return Restricted(file, encoding=encoding).load()
    except WeightsError:
        raise
    except Exception as error:  # of damaged bytes pickle raises whatever comes
        raise WeightsError(f"this is no pickle: {type(error).__name__}: {error}", where=str(source)) from error


def load_strictly(
    model: torch.nn.Module, values: Mapping[str, Any], *, where: object, ignored: Iterable[str] = ()
) -> None:
    """Load `values` (name → tensor or array) into `model`, whose every parameter and buffer they must name.

    Args:
        model: takes them under its own names.
        values: those whose name begins with one of `ignored` are left out, be they there or not.
        where: the file, for the error.
        ignored: prefixes.

    Raises:
        WeightsError: keys are missing, too many, of another shape or not finite: it names them; nothing is loaded. Or a
            value is no array of numbers.

    """
    ignored = tuple(ignored)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(ignored)}
    given = {name: _tensor(name, value, where) for name, value in values.items() if not name.startswith(ignored)}
    misshapen = [
        f"{name} is {tuple(given[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    faults = [
        listed("lacks", wanted.keys() - given.keys()),
        listed("has besides", given.keys() - wanted.keys()),
        listed("has of another shape:", misshapen),
        listed("has NaN or infinity in", [name for name, tensor in given.items() if not tensor.isfinite().all()]),
    ]
    if any(faults):
        raise WeightsError(
            f"the checkpoint {'; '.join(filter(None, faults))}", where=str(where),
            remedy=f"It is not the one that {type(model).__name__} is for, or it is damaged",
        )  # fmt: skip
    model.load_state_dict(given, strict=not ignored)


def _tensor(name: str, value: Any, where: object) -> torch.Tensor:
    import torch

    try:
        # Arrays are copied: those of newer pickles are read-only, which torch warns of.
        return value if isinstance(value, torch.Tensor) else torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"what the checkpoint calls {name} is no array of numbers: {error}", where=str(where)
        ) from error


def listed(words: str, names: Iterable[str]) -> str:
    """`words` and the first of `names`, sorted, for an error; empty where there are none."""
    names = sorted(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{words} {', '.join(names[:_NAMED])}{more}" if names else ""
