"""The user's own `MANO_RIGHT.pkl`, which neither chumpy nor scipy is needed to read, and nothing of which is run.

Its pickle (of Python 2) holds arrays of chumpy, which cannot be imported any more, and a sparse matrix of scipy: stubs
stand for them. Shape legend: V = 778 vertices, J = 16 joints, F faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import WeightsError
from weights.checkpoints import read_pickle

VERTICES, JOINTS, SHAPES = 778, 16, 10


def read_mano(file: Path) -> dict[str, NDArray[Any]]:
    """What `Mano` needs of a `MANO_RIGHT.pkl`, whose chumpy and scipy objects are read without these packages.

    Returns:
        Floating-point `v_template` (V, 3), `shapedirs` (V, 3, 10), `posedirs` (V, 3, 135), `J_regressor` (J, V) and
        `weights` (V, J), in metres; int64 `f` (F, 3) and `parents` (J,), -1 for the root.

    Raises:
        WeightsError: it would run code, or is no model of a hand.

    """
    pickled = read_pickle(file, admit=_ADMITTED, encoding="latin1")
    if not isinstance(pickled, dict):
        raise WeightsError(f"the pickle holds a {type(pickled).__name__}, not a model", where=str(file))
    wanted = (*_SHAPES, "f", "kintree_table")
    if missing := [name for name in wanted if name not in pickled]:
        raise WeightsError(f"the model lacks {', '.join(missing)}", where=str(file))
    try:
        arrays = {name: _array(pickled[name]) for name in wanted}
        arrays["shapedirs"] = arrays["shapedirs"][..., :SHAPES]
        arrays["f"] = arrays["f"].astype(np.int64)
        arrays["parents"] = arrays.pop("kintree_table")[0].astype(np.int64)
        arrays["parents"][0] = -1  # stored as an unsigned -1
    except Exception as error:  # of damaged arrays numpy raises whatever comes
        raise WeightsError(f"the model's arrays cannot be read: {error!r}", where=str(file)) from error
    _check(arrays, file)
    return arrays


_SHAPES = {
    "v_template": (VERTICES, 3),
    "shapedirs": (VERTICES, 3, SHAPES),
    "posedirs": (VERTICES, 3, (JOINTS - 1) * 9),
    "J_regressor": (JOINTS, VERTICES),
    "weights": (VERTICES, JOINTS),
}


def _check(arrays: Mapping[str, NDArray[Any]], file: Path) -> None:
    wrong = [
        f"{name} is {arrays[name].shape} of {arrays[name].dtype}, not {shape}"
        for name, shape in _SHAPES.items()
        if arrays[name].shape != shape or arrays[name].dtype.kind != "f"
    ]
    wrong += [f"{name} is not finite" for name in _SHAPES if not wrong and not np.isfinite(arrays[name]).all()]
    faces, parents = arrays["f"], arrays["parents"]
    if faces.ndim != 2 or faces.shape[1] != 3 or not ((faces >= 0) & (faces < VERTICES)).all():
        wrong.append(f"f {faces.shape} does not name {VERTICES} vertices by threes")
    if parents.shape != (JOINTS,) or not ((parents[1:] >= 0) & (parents[1:] < np.arange(1, JOINTS))).all():
        wrong.append("kintree_table has a joint before its parent")
    if wrong:
        raise WeightsError(
            f"this is no model of a hand: {'; '.join(wrong)}", where=str(file),
            remedy="Take MANO_RIGHT.pkl of MANO 1.2, from its authors' site",
        )  # fmt: skip


class _Stub:
    """Stands for an object of the pickle: holds its state, does nothing."""

    def __init__(self, *_: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def dense(self) -> NDArray[Any]:
        """The array that it stands for."""
        raise NotImplementedError


class _Ch(_Stub):
    """An array of chumpy."""

    def dense(self) -> NDArray[Any]:
        return _array(self.state["x"])


class _Select(_Stub):
    """Part of an array of chumpy."""

    def dense(self) -> NDArray[Any]:
        shape = self.state.get("preferred_shape")
        picked = _array(self.state["a"]).ravel()[_array(self.state["idxs"])]
        return picked if shape is None else picked.reshape(shape)


class _ByColumn(_Stub):
    """A sparse matrix of scipy, compressed along its columns."""

    def dense(self) -> NDArray[Any]:
        return _uncompressed(self.state, self.state["_shape"])


class _ByRow(_Stub):
    """A sparse matrix of scipy, compressed along its rows."""

    def dense(self) -> NDArray[Any]:
        return _uncompressed(self.state, self.state["_shape"][::-1]).T


def _uncompressed(state: Mapping[str, Any], shape: tuple[int, int]) -> NDArray[Any]:
    whole = np.zeros(shape)
    columns = np.repeat(np.arange(shape[1]), np.diff(state["indptr"]))
    np.add.at(whole, (state["indices"], columns), state["data"])
    return whole


def _array(value: Any) -> NDArray[Any]:
    return value.dense() if isinstance(value, _Stub) else np.asarray(value)


def _reconstruct(kind: type[_Stub], *_: object) -> _Stub:
    """`copyreg._reconstructor`, for stubs."""
    return kind()


_ADMITTED: dict[tuple[str, str], Any] = {
    ("chumpy.ch", "Ch"): _Ch,
    ("chumpy", "Ch"): _Ch,
    ("chumpy.reordering", "Select"): _Select,
    **{(f"scipy.sparse.{module}", f"{module.strip('_')}_matrix"): _ByColumn for module in ("csc", "_csc")},
    **{(f"scipy.sparse.{module}", f"{module.strip('_')}_matrix"): _ByRow for module in ("csr", "_csr")},
    **{(module, "_reconstructor"): _reconstruct for module in ("copy_reg", "copyreg")},
    **{(module, kind.__name__): kind for module in ("__builtin__", "builtins") for kind in (object, set)},
}
