"""The full tier end to end under synthetic weights: nonsense in the pictures, right in shape, range and place."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from pipelines.build import Summary, build
from pipelines.chain import make_chain
from pipelines.configure import load_config
from pipelines.validate import validate
from schemas.body import HAND_START
from schemas.conditions import HAND_POINTS, POSE_POINTS
from schemas.stage import Filter
from tests.pipelines.conftest import Job
from tests.preprocess import tiny_models
from tests.preprocess.dwpose.networks import detector_file, figure_file
from tests.preprocess.hamer.synthetic import write_files
from tests.preprocess.worn import DRAWN, JOINTS
from training.data import InteractDataset

torch = pytest.importorskip("torch")
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "full.yaml"
HEIGHT, WIDTH, FRAMES = 256, 192, 24


def record_walker(path: Path) -> None:
    """Somebody in bright green, whom the synthetic DWPose takes for a person, walks past a textured wall."""
    wall = np.random.default_rng(0).integers(60, 160, (HEIGHT // 8, WIDTH // 8, 1), np.uint8).repeat(3, 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in range(FRAMES):
            image = np.kron(wall, np.ones((8, 8, 1), np.uint8))
            image[40:230, 60 + frame : 120 + frame] = (20, 250, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def figure() -> np.ndarray:
    """(133, 2) shares of the window's sides: somebody upright whose hands are spread beside the hips."""
    points = np.full((POSE_POINTS, 2), 0.5) + np.random.default_rng(0).uniform(-0.03, 0.03, (POSE_POINTS, 2))
    for joint, place in JOINTS.items():
        points[joint] = 0.2 + 0.6 * place[0] / DRAWN[1], 0.1 + 0.8 * place[1] / DRAWN[0]
    for start, x in zip(HAND_START, (0.62, 0.38), strict=True):
        points[start : start + HAND_POINTS] = (x, 0.55) + 0.4 * (points[start : start + HAND_POINTS] - 0.5)
    return points


def densepose_file(path: Path) -> Path:
    """A checkpoint as detectron2 publishes them, with weights at random."""
    from preprocess.densepose.model import DensePoseRCNN

    torch.manual_seed(0)
    state = {name: value.numpy() for name, value in DensePoseRCNN().state_dict().items()}
    for name, value in state.items():
        if ".norm." in name:
            value[:] = name.endswith(("weight", "running_var"))
    state["roi_heads.densepose_predictor.ann_index_lowres.bias"][:] = -5, 5  # all of the box is body, and that torso
    state["roi_heads.densepose_predictor.index_uv_lowres.bias"][2] = 5
    path.write_bytes(pickle.dumps({"model": state, "__author__": "test"}))
    return path


def dinov2(folder: Path) -> str:
    config = tiny_models.transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28
    )
    return tiny_models.saved(tiny_models.transformers.Dinov2Model(config), folder, {"height": 28, "width": 28})


def segformer(folder: Path) -> str:
    """One that sees clothes of the upper body in much of every picture."""
    model = tiny_models.transformers.AutoModelForSemanticSegmentation.from_pretrained(tiny_models.segformer(folder))
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=10)
    torch.nn.init.constant_(model.decode_head.classifier.bias[tiny_models.ATR.index("Upper-clothes")], 0.3)
    model.save_pretrained(folder)
    return str(folder)


def paths_of_weights(folder: Path) -> list[str]:
    """The overrides with which a user names their weights."""
    hamer = write_files(folder)
    return [
        f"stages.pose.detector={detector_file(folder / 'yolox_l.onnx')}",
        f"stages.pose.estimator={figure_file(folder / 'dw-ll_ucoco_384.onnx', figure())}",
        f"stages.parsing.model={segformer(folder / 'segformer')}",
        f"stages.hands.checkpoint={hamer.checkpoint}",
        f"stages.hands.checkpoint_config={hamer.config}",
        f"stages.hands.mano={hamer.mano}",
        f"stages.densepose.checkpoint={densepose_file(folder / 'densepose.pkl')}",
        f"stages.garment_track.model={tiny_models.sam2(folder / 'sam2')}",
        f"stages.pair_embedding.model={dinov2(folder / 'dinov2')}",
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> tuple[Summary, Job]:
    job = Job(tmp_path_factory.mktemp("full"))
    record_walker(job.folder / "walker.mp4")
    shirt = np.full((160, 120, 3), 255, np.uint8)
    shirt[30:130, 20:100] = (20, 200, 30)
    Image.fromarray(shirt).save(job.folder / "shirt.png")
    job.add("walker", garment="shirt.png")
    job.config()  # writes the manifest
    (weights := job.folder / "weights").mkdir()
    given = [f"manifest={job.folder / 'manifest.jsonl'}", f"output={job.folder / 'out'}", *paths_of_weights(weights)]
    here = ["ingest.detector=pyscenedetect", "ingest.min_seconds=0.5", "stages.densepose.min_size=128"]
    config = load_config(str(CONFIG), [*given, *here])
    chain = make_chain(config)
    on_gpu = {stage.name for stage in chain.stages if stage.resources.gpus}
    assert on_gpu == {"pose", "parsing", "hands", "densepose", "garment_track", "pair_embedding"}
    for stage in chain.stages:
        fields: dict[str, Any] = config.stages.setdefault(stage.name, {}) or {}
        if stage.name in on_gpu:
            fields["resources"] = {"cpus": 1}
        if isinstance(stage, Filter):  # nonsense keeps no bounds
            fields["bounds"] = dict.fromkeys(type(stage).metrics)
        config.stages[stage.name] = fields
    return build(config), job


def test_a_clip_passes_all_stages(built: tuple[Summary, Job]) -> None:
    summary, job = built
    assert (summary.kept.total(), dict(summary.failures)) == (1, {})
    assert validate(str(job.folder / "out")).problems == ()
    (row,) = job.decisions()
    measured = {"mask_coverage", "mask_flicker", "garment_colour_match", "garment_embedding_match"}
    assert measured <= {name for name, value in row["metrics"].items() if value is not None}


def test_a_trainer_sees_all_conditions(built: tuple[Summary, Job]) -> None:
    _, job = built
    (sample,) = InteractDataset(job.folder / "out", pictures=("agnostic", "pose", "hands", "densepose"))
    for name in ("video", "agnostic_video", "pose", "hands", "densepose"):
        assert sample[name].shape == (FRAMES, 3, HEIGHT, WIDTH), name
        assert sample[name].dtype == torch.uint8
    assert (sample["hands_from"], sample["hands_method"]) == ("mesh", "hamer")
    drawn = sample["pose"].sum(1) > 0
    columns = [drawn[frame].any(0).nonzero().float().mean().item() for frame in (2, FRAMES - 3)]
    assert columns[0] < columns[1] - 10  # the skeleton walks with them
    assert (sample["hands"].sum(1) > 0).any()
    body = (sample["densepose"] != sample["densepose"][:, :, :1, :1]).any(1)  # what is not the corner's colour
    rows, columns = body.any(0).any(1).nonzero(), body.any(0).any(0).nonzero()
    assert rows.min() >= 20
    assert columns.min() >= 20  # in the person's box, and nowhere else
