"""HaMeR's files with random numbers in them: a tiny network, a random hand; and poses with hands drawn by rule."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.spatial import ConvexHull

from preprocess.hamer.network import HamerNetwork, Sizes
from schemas.body import HAND_START, Joint
from schemas.conditions import HAND_POINTS, POSE_POINTS, Pose

TINY = Sizes(
    dim=64, depth=3, heads=4, decoder_dim=96, decoder_depth=2, decoder_heads=3, decoder_head_dim=16, decoder_mlp=80
)  # fmt: skip
TINY_CONFIG: dict[str, Any] = {
    "MODEL": {
        "IMAGE_SIZE": 256,
        "BACKBONE": {"TYPE": "vit", "EMBED_DIM": 64, "DEPTH": 3, "NUM_HEADS": 4},
        "MANO_HEAD": {
            "TYPE": "transformer_decoder",
            "TRANSFORMER_DECODER": {
                "dim": 96, "depth": 2, "heads": 3, "dim_head": 16, "mlp_dim": 80, "dropout": 0.0, "norm": "layer",
                "context_dim": 64,
            },
        },
    },
    "EXTRA": {"FOCAL_LENGTH": 5000},
}  # fmt: skip
PARENTS = [4294967295, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14]


def tiny_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """State dict of a tiny network: hands near the mean, of a size that fills their boxes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        state = HamerNetwork(TINY).state_dict()
    for layer, leaf in itertools.product(("decpose", "decshape", "deccam"), ("weight", "bias")):
        state[f"mano_head.{layer}.{leaf}"] *= 0.02
    state["mano_head.init_hand_pose"] = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(16)[None]
    state["mano_head.init_cam"] = torch.tensor([[6.0, 0, 0]])
    return state


def hand_arrays(seed: int = 0) -> dict[str, Any]:
    """What a MANO file holds: an egg as large as a hand, joints and bends at random."""
    random = np.random.default_rng(seed)
    height, turn = np.linspace(-1, 1, 778), np.arange(778) * (3 - np.sqrt(5)) * np.pi  # a spiral from pole to pole
    across = np.sqrt(1 - height**2)
    egg = np.stack([across * np.cos(turn), across * np.sin(turn), height], axis=1)
    regressor = random.random((16, 778)) ** 8
    weights = random.random((778, 16)) ** 8
    return {
        "v_template": egg * [0.04, 0.02, 0.08],
        "f": ConvexHull(egg).simplices.astype(np.uint32),
        "shapedirs": random.normal(0, 0.0005, (778, 3, 10)),
        "posedirs": random.normal(0, 0.0002, (778, 3, 135)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([PARENTS, range(16)]),
        "bs_style": "lbs",
    }


@dataclass(frozen=True)
class Files:
    """Where the three files lie."""

    checkpoint: Path
    config: Path
    mano: Path


def write_files(folder: Path) -> Files:
    """The three files that the stage loads."""
    files = Files(folder / "hamer.ckpt", folder / "model_config.yaml", folder / "MANO_RIGHT.pkl")
    training = {"discriminator.D_conv1.bias": torch.zeros(3), "initialized": torch.tensor(1.0)}
    torch.save({"state_dict": tiny_state() | training, "epoch": 3}, files.checkpoint)
    files.config.write_text(yaml.safe_dump(TINY_CONFIG))
    files.mano.write_bytes(pickle.dumps(hand_arrays()))
    return files


def drawn_pose(centers: np.ndarray, *, seen: np.ndarray | None = None, radius: float = 20, seed: int = 0) -> Pose:
    """A pose whose hands lie around `centers` (T, 2 sides, 2), the right one the mirror image of the left one."""
    count = len(centers)
    around = np.random.default_rng(seed).uniform(-radius, radius, (HAND_POINTS, 2))
    keypoints, scores = np.zeros((count, POSE_POINTS, 2), np.float32), np.zeros((count, POSE_POINTS), np.float16)
    for side, (start, wrist) in enumerate(zip(HAND_START, (Joint.LEFT_WRIST, Joint.RIGHT_WRIST), strict=True)):
        there = np.ones(count, bool) if seen is None else seen[:, side]
        hand = centers[:, side, None] + around * ((-1, 1) if side else (1, 1))
        keypoints[:, start : start + HAND_POINTS], keypoints[:, wrist] = hand, hand[:, 0]
        scores[there, start : start + HAND_POINTS], scores[:, wrist] = 0.9, 0.9
    return Pose(keypoints=keypoints, scores=scores)
