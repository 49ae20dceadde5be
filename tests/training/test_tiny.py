"""The tiny checkpoint: the same every time, whole or not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from training import tiny
from training.tiny import tiny_checkpoint, write_tiny_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_same_seed_same_bytes(tmp_path: Path, checkpoint: Path) -> None:
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    write_tiny_checkpoint(tmp_path / "other")
    assert torch.equal(torch.random.get_rng_state(), before)
    write_tiny_checkpoint(tmp_path / "second", seed=1)
    one, other, second = (contents(folder) for folder in (checkpoint, tmp_path / "other", tmp_path / "second"))
    assert one == other
    assert (
        one["transformer/diffusion_pytorch_model.safetensors"]
        != second["transformer/diffusion_pytorch_model.safetensors"]
    )


def test_it_is_the_layout_of_diffusers(checkpoint: Path) -> None:
    from diffusers import WanVACEPipeline

    pipeline = WanVACEPipeline.from_pretrained(checkpoint, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    video = pipeline(
        prompt="a person", height=32, width=32, num_frames=5, num_inference_steps=2, output_type="np"
    ).frames
    assert video.shape == (1, 5, 32, 32, 3)


def test_written_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VVT_MODELS", str(tmp_path))
    folder = tiny_checkpoint()
    assert folder.parent == tmp_path
    monkeypatch.setattr(tiny, "_write", None)
    assert tiny_checkpoint() == folder


def test_another_process_is_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"

    def write_as_another_does(unfinished: Path) -> None:
        (unfinished / "model_index.json").write_text("ours")
        folder.mkdir()
        (folder / "model_index.json").write_text("theirs")

    monkeypatch.setattr(tiny, "_write", write_as_another_does)
    write_tiny_checkpoint(folder)
    assert contents(tmp_path) == {"checkpoint/model_index.json": b"theirs"}


def test_nothing_is_left_of_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("the disk is full")

    monkeypatch.setattr(tiny, "_write", fails)
    with pytest.raises(OSError, match="full"):
        write_tiny_checkpoint(tmp_path / "checkpoint")
    assert not list(tmp_path.iterdir())
