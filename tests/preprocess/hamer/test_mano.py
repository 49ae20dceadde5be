"""MANO: the user's own file, and the hand that it makes."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.spatial.transform import Rotation

from preprocess.hamer.mano import Mano
from preprocess.hamer.mano_file import read_mano
from schemas.errors import WeightsError
from tests.preprocess.hamer.synthetic import hand_arrays


def written(values: Any, folder: Path, *, protocol: int = 2) -> Path:
    (folder / "MANO_RIGHT.pkl").write_bytes(pickle.dumps(values, protocol=protocol))
    return folder / "MANO_RIGHT.pkl"


def chumpy(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """Classes that pickle as those of chumpy do."""
    modules = {name: ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    modules["chumpy.ch"].Ch = type("Ch", (), {"__module__": "chumpy.ch"})  # type: ignore[attr-defined]
    modules["chumpy.reordering"].Select = type("Select", (), {"__module__": "chumpy.reordering"})  # type: ignore[attr-defined]
    return modules["chumpy.ch"].Ch, modules["chumpy.reordering"].Select


def holding(kind: type, **state: Any) -> Any:
    made = kind()
    made.__dict__.update(state)
    return made


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("sparse", [scipy.sparse.csc_matrix, scipy.sparse.csr_matrix])
def test_file_as_it_is_published_is_read_without_chumpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, sparse: type
) -> None:
    plain = hand_arrays()
    plain["J_regressor"][plain["J_regressor"] < 1e-3] = 0
    array, select = chumpy(monkeypatch)
    shapes = np.concatenate([plain["shapedirs"], np.ones((778, 3, 10))], axis=2)
    first_ten = np.arange(shapes.size).reshape(shapes.shape)[..., :10].ravel()
    published = plain | {
        "shapedirs": holding(select, a=holding(array, x=shapes), idxs=first_ten, preferred_shape=(778, 3, 10)),
        "posedirs": holding(array, x=plain["posedirs"], _dirty=True, _parents={1}),
        "J_regressor": sparse(plain["J_regressor"]),
    }
    file = written(published, tmp_path, protocol=protocol)
    for name in ("chumpy", "chumpy.ch", "chumpy.reordering"):
        monkeypatch.delitem(sys.modules, name)
    found, expected = read_mano(file), read_mano(written(plain, tmp_path))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert found["parents"].tolist()[:5] == [-1, 0, 1, 2, 0]
    assert "chumpy" not in sys.modules


class Evil:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def test_file_that_would_run_code_does_not(tmp_path: Path) -> None:
    file = written(hand_arrays() | {"extra": Evil(tmp_path / "trace")}, tmp_path)
    with pytest.raises(WeightsError, match="may run code"):
        read_mano(file)
    assert not (tmp_path / "trace").exists()


def test_files_of_something_else_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hand_arrays()
    array, _ = chumpy(monkeypatch)
    lacking = {name: value for name, value in whole.items() if name not in ("f", "weights")}
    body = whole | {"v_template": np.zeros((6890, 3))}
    for values, words in (
        ([1, 2], "holds a list"),
        (lacking, "lacks weights, f"),
        (body, r"v_template is \(6890, 3\)"),
        (whole | {"posedirs": np.zeros((778, 3, 10))}, r"posedirs is \(778, 3, 10\)"),
        (whole | {"weights": np.full((778, 16), np.nan)}, "weights is not finite"),
        (whole | {"f": np.full((5, 3), 778)}, "f .* does not name"),
        (whole | {"kintree_table": np.array([range(1, 17), range(16)])}, "kintree_table"),
        (whole | {"posedirs": holding(array)}, "cannot be read"),
        (whole | {"weights": "many"}, "weights is"),
    ):
        with pytest.raises(WeightsError, match=words):
            read_mano(written(values, tmp_path))
    for content in (b"", b"<html>", pickle.dumps(whole)[:1000]):
        (tmp_path / "bad.pkl").write_bytes(content)
        with pytest.raises(WeightsError):
            read_mano(tmp_path / "bad.pkl")


@pytest.fixture
def mano(tmp_path: Path) -> Mano:
    return Mano(read_mano(written(hand_arrays(), tmp_path)))


def rotations(*shape: int, seed: int = 0) -> torch.Tensor:
    turns = np.random.default_rng(seed).normal(0, 0.4, (int(np.prod(shape)), 3))
    return torch.tensor(Rotation.from_rotvec(turns).as_matrix(), dtype=torch.float32).view(*shape, 3, 3)


def test_hand_at_rest_is_the_template(mano: Mano) -> None:
    still = torch.eye(3).expand(1, 16, 3, 3)
    vertices, joints = mano(still[:, 0], still[:, 1:], torch.zeros(1, 10))
    torch.testing.assert_close(vertices[0], mano.v_template, atol=1e-6, rtol=0)
    torch.testing.assert_close(joints[0, 0], (mano.J_regressor @ mano.v_template)[0], atol=1e-6, rtol=0)
    tips = mano.v_template[[744, 320, 443, 554, 671]]
    torch.testing.assert_close(joints[0, [4, 8, 12, 16, 20]], tips, atol=1e-6, rtol=0)


def test_whole_hand_turns_about_its_wrist(mano: Mano) -> None:
    turn, pose, betas = rotations(4), rotations(4, 15, seed=1), torch.randn(4, 10)
    straight, turned = mano(torch.eye(3).expand(4, 3, 3), pose, betas), mano(turn, pose, betas)
    wrist = straight[1][:, :1]
    for before, after in zip(straight, turned, strict=True):
        expected = torch.einsum("nab,nvb->nva", turn, before - wrist) + wrist
        torch.testing.assert_close(after, expected, atol=2e-6, rtol=0)


def test_finger_moves_what_hangs_on_it_and_nothing_else(mano: Mano) -> None:
    mano.posedirs.zero_()
    pose = torch.eye(3).repeat(1, 15, 1, 1)
    still = mano(torch.eye(3)[None], pose, torch.zeros(1, 10))[1]
    pose[0, 1] = rotations(1)[0]  # MANO's joint 2: the middle one of the index finger, joint 6 of ours
    moved = (mano(torch.eye(3)[None], pose, torch.zeros(1, 10))[1] - still).norm(dim=-1)[0] > 1e-6
    of_skin = {4, 8, 12, 16, 20}  # fingertips are vertices, here drawn by all joints
    assert {joint for joint in range(21) if moved[joint]} - of_skin == {7}


def test_a_hand_more_or_none_does_not_matter(mano: Mano) -> None:
    turn, pose, betas = rotations(3), rotations(3, 15, seed=1), torch.randn(3, 10)
    together, alone = mano(turn, pose, betas), mano(turn[1:2], pose[1:2], betas[1:2])
    torch.testing.assert_close(together[0][1:2], alone[0], atol=1e-6, rtol=0)
    assert mano(turn[:0], pose[:0], betas[:0])[1].shape == (0, 21, 3)
