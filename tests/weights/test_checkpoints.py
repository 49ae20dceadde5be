"""Checkpoints of others: nothing in them is run, and they are loaded whole or not at all."""

from __future__ import annotations

import io
import os
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.errors import WeightsError
from weights.checkpoints import load_strictly, read_pickle


class Harmful:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_in_a_pickle_is_not_run(tmp_path: Path, protocol: int) -> None:
    done = tmp_path / "done"
    source = tmp_path / "model.pkl"
    source.write_bytes(pickle.dumps({"model": {"weight": Harmful(done)}}, protocol=protocol))
    with pytest.raises(WeightsError, match="mkdir.*not admitted"):
        read_pickle(source)
    assert not done.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "builtins\ngetattr", "numpy\nload", "numpy\nmemmap", "torch\nload"])
def test_functions_are_not_handed_out(name: str) -> None:
    with pytest.raises(WeightsError, match="not admitted"):
        read_pickle(io.BytesIO(f"c{name}\n.".encode()))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    whole = pickle.dumps({"model": {"weight": np.arange(1000.0)}})
    file = tmp_path / "model.pkl"
    for content in (b"", b"PK\x03\x04", b"<html>", whole[: len(whole) // 2], whole[:-1], b"\x80\x04."):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.pkl: this is no pickle"):
            read_pickle(file)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_values_come_back(protocol: int) -> None:
    values = OrderedDict(
        weight=np.arange(12, dtype=np.float32).reshape(3, 4), half=np.ones(2, np.float16), count=np.int64(3),
        many=[1, 2.5, None, True, "ä", b"\x00\xff"], column=np.asfortranarray(np.eye(3)),
    )  # fmt: skip
    read = read_pickle(io.BytesIO(pickle.dumps(values, protocol=protocol)))
    assert list(read) == list(values)
    for name, value in values.items():
        np.testing.assert_array_equal(np.asarray(read[name], object), np.asarray(value, object))


def test_names_of_numpy_before_version_2_are_known() -> None:
    new = pickle.dumps(np.arange(3.0), protocol=2)
    assert b"numpy._core" in new
    old = new.replace(b"numpy._core", b"numpy.core")
    np.testing.assert_array_equal(read_pickle(io.BytesIO(old)), [0, 1, 2])


def test_what_the_caller_admits_stands_for_what_is_asked_for() -> None:
    asked = pickle.dumps(torch.float32)
    assert read_pickle(io.BytesIO(asked), admit={("torch", "float32"): str}) is str


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


def values() -> dict[str, np.ndarray]:
    return {name: np.asarray(tensor.numpy() + 1) for name, tensor in network().state_dict().items()}


def test_arrays_are_loaded_by_name_and_are_not_shared() -> None:
    model, given = network(), values()
    for array in given.values():
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_strictly(model, given, where="here")
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), given[name])
    torch.nn.init.zeros_(model[0].weight)
    assert given["0.weight"].any()


def test_all_wrong_keys_are_named_and_nothing_is_loaded() -> None:
    model, given = network(), values()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    del given["0.bias"]
    given["head.weight"] = np.zeros(1)
    given["0.weight"] = given["0.weight"].T
    with pytest.raises(WeightsError) as caught:
        load_strictly(model, given, where="model.pkl")
    for words in ("model.pkl", "lacks 0.bias", "has besides head.weight", "0.weight is (3, 2), not (2, 3)"):
        assert words in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_scalar_is_no_row_of_one() -> None:
    model, given = network(), values()
    given["1.num_batches_tracked"] = np.array([1])
    with pytest.raises(WeightsError, match=r"1\.num_batches_tracked is \(1,\), not \(\)"):
        load_strictly(model, given, where="here")


def test_ignored_keys_may_be_there_or_not() -> None:
    for extra in ({}, {"1.running_mean": "nonsense", "optimizer": None}):
        given = {name: value for name, value in values().items() if not name.startswith("1.running")} | extra
        load_strictly(network(), given, where="here", ignored=("1.running", "optimizer"))


@pytest.mark.parametrize("value", ["text", None, {"a": 1}, np.array([[None] * 3] * 2, object), np.array(["a", "b"])])
def test_what_is_no_numbers_is_named(value: object) -> None:
    with pytest.raises(WeightsError, match=r"0\.weight is no array of numbers"):
        load_strictly(network(), {**values(), "0.weight": value}, where="here")


def test_a_wholly_different_file_names_some_keys_and_counts_the_others() -> None:
    given = {f"layer{number}": np.zeros(1) for number in range(100)}
    with pytest.raises(WeightsError, match="has besides .* and 92 more"):
        load_strictly(network(), given, where="here")
