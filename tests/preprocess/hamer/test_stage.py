"""The stage on drawn poses, with a tiny network and a random hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from media import frames
from preprocess.hamer.boxes import hand_boxes
from preprocess.hamer.camera import full_focal, full_translation
from preprocess.hamer.checkpoint import load_network, read_config
from preprocess.hamer.crop import crop_hand, square_around
from preprocess.hamer.mano import Mano
from preprocess.hamer.mano_file import read_mano
from preprocess.hamer.posing import PosedHands
from preprocess.hamer.stage import HamerHands
from schemas.artifacts import ARTIFACTS, check
from schemas.clip import Clip
from schemas.conditions import LEFT, RIGHT, HandMesh, Hands, Pose
from schemas.errors import ConfigError, StageError, WeightsError
from tests.curation.degrade import from_pictures
from tests.preprocess.hamer.synthetic import drawn_pose, write_files

HEIGHT, WIDTH = 120, 160


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hamer")
    write_files(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost such a small network more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stage_of(folder: Path, **options: object) -> HamerHands:
    stage = HamerHands(
        checkpoint=str(folder / "hamer.ckpt"), checkpoint_config=str(folder / "model_config.yaml"),
        mano=str(folder / "MANO_RIGHT.pkl"), device="cpu", renderer="cpu", **options,
    )  # fmt: skip
    stage.setup()
    return stage


def clip_of(pose: Pose, tmp_path: Path, name: str = "clip", *, seed: int = 0) -> Clip:
    noise = np.random.default_rng(seed).integers(0, 255, (len(pose.keypoints), HEIGHT, WIDTH, 3)).astype(np.uint8)
    clip = from_pictures(noise, tmp_path / f"{name}.mp4")
    clip.key = f"{name}-{seed}"
    clip.artifacts["pose"] = pose
    return clip


def processed(stage: HamerHands, *clips: Clip) -> list[tuple[HandMesh, Hands, np.ndarray]]:
    stage.process_batch(clips)
    for clip in clips:
        for name in stage.gives:
            check(name, clip.artifacts[name], clip)
    return [(clip.artifacts["hand_mesh"], clip.artifacts["hands"], clip.artifacts["hand_prior"]) for clip in clips]


def centers(count: int) -> np.ndarray:
    """Hands that cross: (T, 2, 2)."""
    steps = np.linspace(-45, 45, count)
    return np.stack([np.stack([80 + steps, 50 + 0 * steps], 1), np.stack([80 - steps, 70 + 0 * steps], 1)], axis=1)


def test_hands_lie_where_the_pose_has_them_and_keep_their_sides_while_they_cross(folder: Path, tmp_path: Path) -> None:
    where = centers(11)
    clip = clip_of(drawn_pose(where), tmp_path)
    [(mesh, hands, prior)] = processed(stage_of(folder), clip)
    assert mesh.present.all()
    assert hands.method == "hamer"
    away = hands.joints_2d.mean(2) - where
    assert np.abs(away).max() < 15
    assert np.abs(away - away.mean(0)).max() < 3
    np.testing.assert_allclose(hands.joints_3d.mean(2), 0, atol=1e-6)
    assert 0.02 < np.abs(hands.joints_3d).max() < 0.3
    for frame in range(11):
        rows, columns = np.nonzero(prior[frame])
        box = hands.joints_2d[frame].reshape(-1, 2)
        assert len(rows) > 100
        assert columns.min() < box[:, 0].mean() < columns.max()
    again = ARTIFACTS["hand_mesh"].decode(ARTIFACTS["hand_mesh"].encode(mesh))
    np.testing.assert_array_equal(again.translation, mesh.translation)


def test_clip_in_the_mirror_gives_the_same_hands_on_the_other_side(folder: Path, tmp_path: Path) -> None:
    """Left hands are mirrored for the network, so both ways it sees the same pictures."""
    pose = drawn_pose(centers(2))
    straight = clip_of(pose, tmp_path)
    keypoints = pose.keypoints.copy()
    keypoints[..., 0] = WIDTH - 1 - keypoints[..., 0]
    other = drawn_pose(centers(2))
    for start, end in ((91, 112), (112, 91), (9, 10), (10, 9)):
        length = 21 if start > 10 else 1
        other.keypoints[:, end : end + length] = keypoints[:, start : start + length]
    mirrored = clip_of(other, tmp_path, "mirrored")
    images = frames(straight).images[:, :, ::-1].copy()
    frames(mirrored).images.flags.writeable = True
    frames(mirrored).images[:] = images  # encoding would blur the noise otherwise
    stage = stage_of(folder, smoothing={"cutoff": 0})
    [(mesh, hands, _)], [(reflected, swapped, _)] = processed(stage, straight), processed(stage, mirrored)
    np.testing.assert_allclose(reflected.hand_pose[:, ::-1], mesh.hand_pose, atol=1e-4)
    np.testing.assert_allclose(swapped.joints_3d[:, ::-1] * [-1, 1, 1], hands.joints_3d, atol=1e-5)
    flipped = swapped.joints_2d[:, ::-1] * [-1, 1] + [WIDTH - 1, 0]
    # HaMeR's camera stands at W/2, half a pixel from the middle of pixel centres: nearly all of it cancels.
    np.testing.assert_allclose(flipped, hands.joints_2d, atol=0.02)


@torch.inference_mode()
def test_what_is_stored_is_what_the_network_says_of_hamers_crops(folder: Path, tmp_path: Path) -> None:
    pose = drawn_pose(centers(1))
    clip = clip_of(pose, tmp_path)
    [(mesh, hands, _)] = processed(stage_of(folder), clip)
    config = read_config(folder / "model_config.yaml")
    network = load_network(folder / "hamer.ckpt", config, device=torch.device("cpu"))
    mano = Mano(read_mano(folder / "MANO_RIGHT.pkl"))
    focal = full_focal(WIDTH, HEIGHT, focal=5000)
    for side, box in enumerate(hand_boxes(pose)[0][0]):
        square = square_around(box)
        crop = crop_hand(frames(clip).images[0], square, right=side == RIGHT)
        said = network(torch.from_numpy(crop)[None])
        place = full_translation(
            said.camera, centers=torch.from_numpy(square.center)[None], sizes=torch.tensor([square.size]),
            right=torch.tensor([side == RIGHT]), width=WIDTH, height=HEIGHT, focal=focal,
        )  # fmt: skip
        np.testing.assert_allclose(mesh.hand_pose[0, side], said.hand_pose[0], atol=1e-5)
        np.testing.assert_allclose(mesh.global_orient[0, side], said.global_orient[0], atol=1e-5)
        np.testing.assert_allclose(mesh.betas[0, side], said.betas[0], atol=1e-5)
        np.testing.assert_allclose(mesh.translation[0, side], place[0], rtol=1e-5)
        joints = mano(said.global_orient, said.hand_pose, said.betas)[1][0].numpy() * (
            1 if side == RIGHT else (-1, 1, 1)
        )
        there = joints + place.numpy()
        expected = there[:, :2] / there[:, 2:] * focal + [WIDTH / 2, HEIGHT / 2]
        np.testing.assert_allclose(hands.joints_2d[0, side], expected, atol=1e-2)


def test_short_absence_is_bridged_a_long_one_not_and_the_other_hand_does_not_care(folder: Path, tmp_path: Path) -> None:
    seen = np.ones((20, 2), bool)
    seen[4:6, LEFT] = seen[9:17, RIGHT] = False
    where = np.tile([[50.0, 60], [110, 60]], (20, 1, 1))
    [(mesh, hands, prior)] = processed(stage_of(folder), clip_of(drawn_pose(where, seen=seen), tmp_path))
    assert mesh.present[:, LEFT].all()
    assert mesh.present[:, RIGHT].tolist() == seen[:, RIGHT].tolist()
    assert (hands.scores[4:6, LEFT] < 0.5).all()
    assert not mesh.global_orient[9:17, RIGHT].any()
    assert not hands.joints_2d[9:17, RIGHT].any()
    assert (hands.joints_2d[:, LEFT, :, 0].mean(1) < 80).all()
    assert not prior[12, :, 90:].any()
    assert prior[2, :, 90:].any()


def test_nobody_one_frame_and_hands_out_of_the_picture(folder: Path, tmp_path: Path) -> None:
    nobody = drawn_pose(centers(3), seen=np.zeros((3, 2), bool))
    away = drawn_pose(np.full((1, 2, 2), 900.0))
    one = drawn_pose(centers(1))
    clips = [clip_of(pose, tmp_path, f"clip{index}") for index, pose in enumerate((nobody, away, one))]
    found = processed(stage_of(folder), *clips)
    assert [int(mesh.present.sum()) for mesh, _, _ in found] == [0, 0, 2]
    assert not found[0][2].any()
    assert found[0][0].focal == pytest.approx(full_focal(WIDTH, HEIGHT, focal=5000))


def test_batches_across_clips_give_what_each_clip_gives_alone(folder: Path, tmp_path: Path) -> None:
    clips = [clip_of(drawn_pose(centers(count)), tmp_path, f"clip{count}", seed=count) for count in (2, 1, 3)]
    together = processed(stage_of(folder, batch=5), *clips)
    alone = [processed(stage_of(folder, batch=1), clip)[0] for clip in clips]
    for (mesh, hands, _), (mesh_alone, hands_alone, _) in zip(together, alone, strict=True):
        np.testing.assert_allclose(mesh.hand_pose, mesh_alone.hand_pose, atol=1e-5)
        np.testing.assert_allclose(hands.joints_2d, hands_alone.joints_2d, atol=1e-3)
        assert not np.allclose(mesh.hand_pose[0, 0], mesh.hand_pose[0, 1], atol=1e-5)


def test_left_hand_is_mirrored_and_its_faces_run_the_other_way(folder: Path) -> None:
    still = np.tile(np.eye(3, dtype=np.float32), (1, 2, 16, 1, 1))
    place = np.tile(np.array([0.1, 0.2, 20], np.float32), (1, 2, 1))
    mesh = HandMesh(
        present=np.ones((1, 2), bool), global_orient=still[:, :, 0], hand_pose=still[:, :, 1:],
        betas=np.zeros((1, 2, 10), np.float32), translation=place, focal=np.array(3000, np.float32),
    )  # fmt: skip
    mano = Mano(read_mano(folder / "MANO_RIGHT.pkl"))
    left, right = PosedHands(mesh, mano, height=HEIGHT, width=WIDTH).meshes(0)
    np.testing.assert_allclose(right.vertices - place[0, 0], mano.v_template, atol=1e-5)
    np.testing.assert_allclose((left.vertices - place[0, 0]) * [-1, 1, 1], mano.v_template, atol=1e-5)
    np.testing.assert_array_equal(left.faces, right.faces[:, ::-1])


def stage_that_says(folder: Path, tmp_path: Path, **values: torch.Tensor) -> HamerHands:
    """A stage with `values` in the place of some of its head's."""
    state = torch.load(folder / "hamer.ckpt")
    state["state_dict"] |= {f"mano_head.{name}": value for name, value in values.items()}
    torch.save(state, tmp_path / "other.ckpt")
    stage = stage_of(folder).model_copy(update={"checkpoint": str(tmp_path / "other.ckpt")})
    stage.setup()
    return stage


@pytest.mark.parametrize("scale", [-6.0, 0.0, 1e6])
def test_hand_behind_the_camera_or_upon_it_is_no_hand(folder: Path, tmp_path: Path, scale: float) -> None:
    still = {
        "init_cam": torch.tensor([[scale, 0, 0]]),
        "deccam.weight": torch.zeros(3, 96),
        "deccam.bias": torch.zeros(3),
    }
    stage = stage_that_says(folder, tmp_path, **still)
    [(mesh, _, prior)] = processed(stage, clip_of(drawn_pose(centers(2)), tmp_path))
    assert mesh.present.any() == (scale == 0)  # as far away as that is, there is nothing to draw
    assert not prior.any()


def test_network_that_gives_nan_fails_the_clip_and_says_so(folder: Path, tmp_path: Path) -> None:
    stage = stage_that_says(folder, tmp_path, **{"decshape.weight": torch.full((10, 96), 3e38)})
    with pytest.raises(StageError, match="NaN"):
        stage.process(clip_of(drawn_pose(centers(2)), tmp_path))
    nobody = clip_of(drawn_pose(centers(2), seen=np.zeros((2, 2), bool)), tmp_path, "nobody")
    assert not processed(stage, nobody)[0][0].present.any()


def test_what_the_config_can_get_wrong(folder: Path) -> None:
    files = {"checkpoint": str(folder / "hamer.ckpt"), "checkpoint_config": str(folder / "model_config.yaml")}
    with pytest.raises(WeightsError, match=r"nowhere\.pkl"):
        HamerHands(**files, mano=str(folder / "nowhere.pkl"), device="cpu").setup()
    with pytest.raises(ConfigError, match="cannot use the device"):
        HamerHands(**files, mano=str(folder / "MANO_RIGHT.pkl"), device="tpu").setup()
    with pytest.raises(ValueError, match="gap"):
        HamerHands(smoothing={"gap": -1})


def test_fingerprint_knows_the_weights_by_content() -> None:
    sha256 = {"a/hamer.ckpt": "1", "b/hamer.ckpt": "1", "c/hamer.ckpt": "2"}
    prints = [HamerHands(checkpoint=name).own_fingerprint(sha256) for name in sha256]
    assert prints[0] == prints[1] != prints[2]
