"""Networks exported for one picture, opened to many, as a GPU wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from preprocess.dwpose import network
from preprocess.dwpose.estimator import PoseEstimator
from preprocess.dwpose.open_batch import open_batch
from tests.clips import shared
from tests.preprocess.dwpose.networks import detector_file, estimator_file

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate provider")  # of the CPU taken for a GPU


def answers(session: Any, pictures: np.ndarray) -> list[np.ndarray]:
    return session.run(None, {session.get_inputs()[0].name: pictures})


def opened_answers_as_alone(file: Path) -> None:
    alone = onnxruntime.InferenceSession(file)
    opened = onnxruntime.InferenceSession(open_batch(file.read_bytes()))
    assert [of.shape[0] for of in (*opened.get_inputs(), *opened.get_outputs())] == ["N"] * (
        1 + len(alone.get_outputs())
    )
    pictures = np.random.default_rng(0).uniform(0, 255, (3, *alone.get_inputs()[0].shape[1:])).astype(np.float32)
    each = [answers(alone, picture[None]) for picture in pictures]
    for one, together in zip(zip(*each, strict=True), answers(opened, pictures), strict=True):
        np.testing.assert_allclose(np.concatenate(one), together, rtol=1e-4, atol=1e-3)


def test_networks_answer_many_as_they_answer_each(tmp_path: Path) -> None:
    opened_answers_as_alone(detector_file(tmp_path / "det.onnx", batch=1))
    opened_answers_as_alone(estimator_file(tmp_path / "pose.onnx", batch=1))


@pytest.mark.parametrize("name", ["det_synth", "pose_synth"])
def test_golden_networks_answer_many_as_they_answer_each(name: str) -> None:
    opened_answers_as_alone(shared(f"golden/hand_pose_mask/dwpose/{name}.onnx"))


def test_open_network_stays_as_it_is(tmp_path: Path) -> None:
    file = estimator_file(tmp_path / "pose.onnx")
    assert open_batch(file.read_bytes()) == file.read_bytes()


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x3a\x7f\x0a", b"no network"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        open_batch(content)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The CPU, taken for a GPU; sizes of the batches that it was given."""
    monkeypatch.setattr(network, "_CUDA", "CPUExecutionProvider")
    sizes: list[int] = []
    run = network.Network._run
    monkeypatch.setattr(network.Network, "_run", lambda self, given: (sizes.append(len(given)), run(self, given))[1])
    return sizes


def seven(estimator: PoseEstimator) -> list[np.ndarray]:
    images = list(np.random.default_rng(3).integers(0, 256, (7, 96, 64, 3), np.uint8))
    return [points for points, _ in estimator(images, np.tile([8.0, 8, 60, 90], (7, 1)))]


@pytest.mark.parametrize("batch", [1, "N"])
def test_gpu_takes_batches_of_either_kind_of_file(tmp_path: Path, gpu: list[int], batch: int | str) -> None:
    together = seven(PoseEstimator(estimator_file(tmp_path / "pose.onnx", batch=batch), batch=3))
    assert gpu == [3, 3, 1]
    alone = seven(PoseEstimator(estimator_file(tmp_path / "pose.onnx", batch=1), batch=1))
    np.testing.assert_allclose(together, alone)


def test_gpu_takes_one_at_a_time_where_a_batch_would_be_mixed(tmp_path: Path, gpu: list[int]) -> None:
    mixed = seven(PoseEstimator(estimator_file(tmp_path / "mixing.onnx", batch=1, mixing=True), batch=3))
    assert gpu == [1] * 7
    np.testing.assert_allclose(mixed, seven(PoseEstimator(estimator_file(tmp_path / "pose.onnx", batch=1), batch=1)))
