"""Hands by HaMeR: meshes of MANO, their joints, and their picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from preprocess.devices import Precision, torch_device, torch_dtype
from preprocess.hamer.boxes import SURE
from preprocess.hamer.smoothing import HandTrack, Smoothing, steady
from schemas.clip import Clip
from schemas.conditions import HandMesh
from schemas.stage import ModelFile, Stage


class HamerHands(Stage):
    """Both hands as meshes, with HaMeR and the user's own MANO (Pavlakos et al., CVPR 2024; Romero et al., 2017).

    Hands and their sides are the pose's. `hands` is replaced where another stage has given it.
    """

    needs: ClassVar[tuple[str, ...]] = ("video", "pose")
    gives: ClassVar[tuple[str, ...]] = ("hands", "hand_mesh", "hand_prior")

    checkpoint: ModelFile = Field(default="hamer", description="HaMeR's network: hamer.ckpt.")
    checkpoint_config: ModelFile = Field(default="hamer_config", description="Its sizes: model_config.yaml.")
    mano: ModelFile = Field(default="mano_right", description="The model of a hand: MANO_RIGHT.pkl.")
    device: str = Field(default="auto", description="Where the network runs: auto (GPU if there is one), cpu, cuda:0…")
    precision: Precision = Field(
        default="auto", description="Of the backbone; auto is float16 on a GPU. The head and MANO are float32."
    )
    batch: int = Field(default=32, ge=1, description="Most hands that the network sees at once.")
    sure: float = Field(default=SURE, ge=0, lt=1, description="Confidence above which a keypoint of a hand counts.")
    smoothing: Smoothing = Field(default=Smoothing(), description="How hands are made steady over time.")
    renderer: Literal["auto", "cpu", "gl"] = Field(
        default="cpu",
        description="Who draws `hand_prior`: cpu gives the same bytes on every machine; gl, OpenGL through EGL, is "
        "faster on a GPU; auto takes gl where there is one.",
    )

    _estimate: Any = PrivateAttr(default=None)
    _mano: Any = PrivateAttr(default=None)
    _focal: float = PrivateAttr(default=0.0)

    def setup(self) -> None:
        """Load the network and the hand."""
        import weights
        from preprocess.hamer.checkpoint import load_network, read_config
        from preprocess.hamer.estimator import HandEstimator
        from preprocess.hamer.mano import Mano
        from preprocess.hamer.mano_file import read_mano

        device = torch_device(self.device)
        config = read_config(weights.path(self.checkpoint_config))
        self._mano = Mano(read_mano(weights.path(self.mano))).to(device)
        network = load_network(
            weights.path(self.checkpoint), config, device=device, dtype=torch_dtype(self.precision, device)
        )
        self._focal = config.focal
        self._estimate = HandEstimator(network, focal=config.focal, batch=self.batch, sure=self.sure)

    def process(self, clip: Clip) -> None:
        """Fill in `hands`, `hand_mesh` and `hand_prior`."""
        self.process_batch([clip])

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """The same, for clips whose hands fill the network's batches together."""
        for clip, track in zip(clips, self._estimate(clips), strict=True):
            self._fill_in(clip, steady(track, fps=float(clip.span.fps), smoothing=self.smoothing))

    def _fill_in(self, clip: Clip, track: HandTrack) -> None:
        from preprocess.hamer.camera import full_focal
        from preprocess.hamer.posing import PosedHands

        height, width = clip.span.height, clip.span.width
        mesh = HandMesh(
            present=track.present,
            global_orient=track.rotations[:, :, 0],
            hand_pose=track.rotations[:, :, 1:],
            betas=track.betas,
            translation=track.translation,
            focal=np.array(full_focal(width, height, focal=self._focal), np.float32),
        )
        posed = PosedHands(mesh, self._mano, height=height, width=width)
        clip.artifacts["hand_mesh"] = mesh
        clip.artifacts["hands"] = posed.hands(track.scores)
        clip.artifacts["hand_prior"] = posed.prior(renderer=self.renderer)
