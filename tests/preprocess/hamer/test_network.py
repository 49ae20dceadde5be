"""HaMeR's network, MANO and cameras against golden numbers, by the golden rule for weights."""

from __future__ import annotations

import importlib.util
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.hamer.camera import crop_translation, full_focal, full_translation, projected
from preprocess.hamer.mano import Mano
from preprocess.hamer.mano_file import read_mano
from preprocess.hamer.network import HamerNetwork, HandParameters, Sizes, rotation_from_6d
from tests.clips import shared
from tests.preprocess.hamer.synthetic import TINY

FOLDER = "golden/hand_pose_mask"
SALT = "hd-A-2026:"
FOCAL = 5000.0


def golden_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, shared(f"{FOLDER}/{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network_by_rule(sizes: Sizes) -> HamerNetwork:
    rule, means = golden_module("rule"), golden_module("mano_synth").mean_params(SALT)
    initial = {"init_hand_pose": means["pose"], "init_betas": means["shape"], "init_cam": means["cam"]}
    with torch.device("meta"):
        network = HamerNetwork(sizes)
    network.to_empty(device="cpu").requires_grad_(requires_grad=False)

    @torch.inference_mode()  # which a thread does not take from the one that starts it
    def fill(name: str, tensor: torch.Tensor) -> None:
        given = initial.get(name.removeprefix("mano_head."))
        tensor.copy_(rule.tensor(name, tensor.shape, SALT) if given is None else torch.from_numpy(given))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, *zip(*network.state_dict().items(), strict=True)))
    return network.eval()


def golden_crops() -> list[Any]:
    return [np.load(shared(f"{FOLDER}/hamer/crop_{index}.npz")) for index in range(4)]


def near(ours: torch.Tensor, golden: np.ndarray, *, within: float) -> None:
    np.testing.assert_allclose(ours.numpy(), golden.reshape(ours.shape), rtol=0, atol=within)


def compare(found: HandParameters, golden: Any, hands: slice = slice(None)) -> None:
    near(found.camera, golden["pred_cam"][hands], within=2e-6)
    near(found.global_orient, golden["global_orient"][hands], within=1e-5)
    near(found.hand_pose, golden["hand_pose"][hands], within=1e-5)
    near(found.betas, golden["betas"][hands], within=1e-5)


@torch.inference_mode()
def test_tiny_network_hand_and_cameras_are_hamers(tmp_path: Any) -> None:
    golden, crops = np.load(shared(f"{FOLDER}/hamer/out_tiny.npz")), golden_crops()
    found = network_by_rule(TINY)(torch.from_numpy(np.stack([crop["img"] for crop in crops])))
    compare(found, golden)
    golden_module("mano_synth").write(str(tmp_path), SALT)
    mano = Mano(read_mano(tmp_path / "MANO_RIGHT.pkl"))
    vertices, joints = mano(found.global_orient, found.hand_pose, found.betas)
    near(vertices, golden["pred_vertices"], within=1e-6)
    near(joints, golden["pred_keypoints_3d"], within=1e-6)
    place = crop_translation(found.camera, focal=FOCAL)
    near(place, golden["pred_cam_t"], within=1e-4)
    near(projected(joints + place[:, None], focal=FOCAL / 256), golden["pred_keypoints_2d"], within=1e-6)
    for index, crop in enumerate(crops):
        width, height = (int(side) for side in crop["img_size"])
        focal = full_focal(width, height, focal=FOCAL)
        assert focal == pytest.approx(golden["scaled_focal_length"][index])
        full = full_translation(
            found.camera[index : index + 1], centers=torch.from_numpy(crop["box_center"])[None],
            sizes=torch.tensor([float(crop["box_size"])]), right=torch.tensor([bool(crop["right"])]),
            width=width, height=height, focal=focal,
        )  # fmt: skip
        near(full, golden["cam_t_full"][index], within=1e-4)


@pytest.mark.slow
@torch.inference_mode()
def test_full_network_is_hamers() -> None:
    network, crops = network_by_rule(Sizes()), golden_crops()
    ours = {name: "x".join(map(str, tensor.shape)) for name, tensor in network.state_dict().items()}
    lines = shared(f"{FOLDER}/hamer/keys_vith.tsv").read_text().splitlines()[1:]
    theirs = dict(line.split("\t")[:2] for line in lines)
    assert ours == {name: shape for name, shape in theirs.items() if name.startswith(("backbone.", "mano_head."))}
    found = network(torch.from_numpy(crops[1]["img"])[None])
    compare(found, np.load(shared(f"{FOLDER}/hamer/out_vith.npz")), slice(1, 2))


def test_rotations_are_orthonormal_and_keep_the_first_column() -> None:
    values = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    rotations = rotation_from_6d(values)
    near(rotations @ rotations.mT, np.eye(3)[None].repeat(50, 0), within=1e-5)
    near(torch.linalg.det(rotations), np.ones(50), within=1e-5)
    near(rotations[:, :, 0], torch.nn.functional.normalize(values[:, :3]).numpy(), within=1e-6)


def test_both_cameras_show_a_hand_at_the_same_place() -> None:
    camera = torch.tensor([[0.9, 0.05, -0.1], [1.2, 0.2, 0.1]])
    centers, sizes, right = (
        torch.tensor([[300.0, 200], [100, 400]]),
        torch.tensor([150.0, 90]),
        torch.tensor([True, False]),
    )
    focal = full_focal(640, 480, focal=FOCAL)
    full = full_translation(camera, centers=centers, sizes=sizes, right=right, width=640, height=480, focal=focal)
    in_crop = projected(crop_translation(camera, focal=FOCAL), focal=FOCAL / 256)
    in_crop[~right, 0] *= -1
    in_picture = projected(full, focal=focal, width=640, height=480)
    near(in_picture, (in_crop * sizes[:, None] + centers).numpy(), within=1e-3)
