"""The pair check by embeddings, with tiny random models saved as published ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media import frames
from preprocess.pair_check.cuts import cut_out
from preprocess.pair_check.embedding import PairMatchEmbedding, on_grey
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.errors import StageError, WeightsError
from tests.preprocess.test_pair_match import dressed, stripes
from weights.torchvision_operators import declare_missing_operators

torch = pytest.importorskip("torch")
declare_missing_operators()
transformers = pytest.importorskip("transformers")

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def siglip2() -> tuple[Any, dict[str, Any]]:
    """SigLIP 2 of one size, which is a SigLIP to transformers."""
    config = transformers.SiglipConfig(
        vision_config={**TINY, "image_size": 64, "patch_size": 16},
        text_config={**TINY, "vocab_size": 99, "max_position_embeddings": 8, "projection_size": 32},
    )
    return transformers.SiglipModel(config), {"size": {"height": 64, "width": 64}, "resample": 2, **HALF}


def siglip2_naflex() -> tuple[Any, dict[str, Any]]:
    config = transformers.Siglip2Config(
        vision_config={**TINY, "patch_size": 16, "num_patches": 16},
        text_config={**TINY, "vocab_size": 99, "max_position_embeddings": 8, "projection_size": 32},
    )
    return transformers.Siglip2Model(config), {"patch_size": 16, "max_num_patches": 16, "resample": 2, **HALF}


def dinov2() -> tuple[Any, dict[str, Any]]:
    config = transformers.Dinov2Config(**TINY, mlp_ratio=2, image_size=56, patch_size=14)
    preprocessor = {"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}, "resample": 3}
    return transformers.Dinov2Model(config), preprocessor


def dinov3() -> tuple[Any, dict[str, Any]]:
    config = transformers.DINOv3ViTConfig(**TINY, image_size=64, patch_size=16, num_register_tokens=2)
    return transformers.DINOv3ViTModel(config), {"size": {"height": 64, "width": 64}, "resample": 2}


KINDS = [siglip2, siglip2_naflex, dinov2, dinov3]
Model = Callable[[], tuple[Any, dict[str, Any]]]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Path]:
    """Folder of a model of random weights, made once."""
    root = tmp_path_factory.mktemp("models")

    def save(kind: Model) -> Path:
        folder = root / kind.__name__
        if not folder.exists():
            torch.manual_seed(0)
            model, preprocessor = kind()
            with torch.no_grad():
                for weight in model.parameters():  # freshly made, some are all but zero
                    weight.add_(0.2 * torch.randn_like(weight))
            model.save_pretrained(folder)
            (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        return folder

    return save


def stage(model: Path, **fields: Any) -> PairMatchEmbedding:
    made = PairMatchEmbedding(model=str(model), device="cpu", **fields)
    made.setup()
    return made


def pair(cloth: np.ndarray | tuple[int, int, int] = (180, 40, 60), *, length: int = 3) -> Clip:
    """Somebody drawn, and as the garment image the very frame that shows them."""
    clip = dressed(cloth, length=length)
    clip.artifacts["garment"] = frames(clip).images[0]
    clip.artifacts["garment_mask"] = clip.artifacts["parsing"][0] == Label.UPPER_CLOTHES
    return clip


def match(one: PairMatchEmbedding, clip: Clip) -> float:
    return one.measure(clip)["garment_embedding_match"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_picture_matches_wholly_and_another_does_not(kind: Model, saved: Callable[[Model], Path]) -> None:
    checked = stage(saved(kind))
    assert match(checked, pair(length=1)) == pytest.approx(1, abs=1e-5)
    clip = pair()
    assert match(checked, clip) > 0.999
    clip.artifacts["garment"] = stripes((320, 240), period=12, colour=(20, 160, 40))
    assert match(checked, clip) < 0.99


def test_what_is_not_garment_changes_nothing(saved: Callable[[Model], Path]) -> None:
    checked, clip = stage(saved(dinov3)), pair()
    image, mask = clip.artifacts["garment"].copy(), clip.artifacts["garment_mask"]
    before = match(checked, clip)
    image[~mask] = np.random.default_rng(0).integers(0, 256, (np.sum(~mask), 3))
    clip.artifacts["garment"] = image
    assert match(checked, clip) == before


def test_nothing_is_measured_where_there_is_nothing_to_compare(saved: Callable[[Model], Path]) -> None:
    checked = stage(saved(dinov3))
    nobody, blank, without = pair(), pair(), pair()
    nobody.artifacts["parsing"] = np.zeros_like(nobody.artifacts["parsing"])
    blank.artifacts["garment_mask"] = np.zeros_like(blank.artifacts["garment_mask"])
    without.pair = without.pair.model_copy(update={"garment": None})
    clips = [nobody, pair(), blank, pair(stripes((320, 240), period=20)), without]
    checked.process_batch(clips)
    measured = ["garment_embedding_match" in clip.metrics for clip in clips]
    assert measured == [False, True, False, True, False]
    assert checked.decide(clips[1].metrics) is None


@pytest.mark.parametrize("kind", [siglip2_naflex, dinov3])
def test_a_batch_gives_what_each_clip_gives_alone(kind: Model, saved: Callable[[Model], Path]) -> None:
    checked = stage(saved(kind), batch=3)
    clips = [pair(length=1), pair((250, 250, 250)), pair(stripes((320, 240), period=20), length=4)]
    for clip in clips[1:]:
        clip.artifacts["garment"] = np.ascontiguousarray(clip.artifacts["garment"][::-1, ::-1])
    alone = [match(checked, clip) for clip in clips]
    checked.process_batch(clips)
    assert [clip.metrics["garment_embedding_match"] for clip in clips] == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 4) for value in alone}) == len(clips)


@pytest.mark.parametrize("kind", [siglip2, siglip2_naflex, dinov3])
def test_pictures_are_made_ready_as_by_transformers(kind: Model, saved: Callable[[Model], Path]) -> None:
    folder, checked = saved(kind), stage(saved(kind))
    picture = on_grey(cut_out(pair().artifacts["garment"], pair().artifacts["garment_mask"]))
    if kind is dinov3:  # has no processor but torchvision's: here by the book
        from PIL import Image

        small = np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BILINEAR)) / 255
        pixels = ((small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)
        ready = {"pixel_values": torch.tensor(pixels[None], dtype=torch.float32)}
        tower = transformers.AutoModel.from_pretrained(folder).eval()
    else:
        name = {siglip2: "SiglipImageProcessorPil", siglip2_naflex: "Siglip2ImageProcessorPil"}[kind]
        ready = getattr(transformers, name).from_pretrained(folder)(picture, return_tensors="pt")
        tower = transformers.AutoModel.from_pretrained(folder).eval().vision_model
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(tower(**ready).pooler_output, dim=1)[0].numpy()
    assert checked._embed([picture])[0] @ expected > 0.9995


def test_a_checkpoint_that_does_not_fit_names_its_keys(tmp_path: Path, saved: Callable[[Model], Path]) -> None:
    import safetensors.torch

    folder = saved(dinov3)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_text((folder / file).read_text())
    safetensors.torch.save_file(
        {**{name: value for name, value in weights.items() if name != "norm.weight"}, "extra.weight": torch.ones(2)},
        tmp_path / "model.safetensors", metadata={"format": "pt"},
    )  # fmt: skip
    with pytest.raises(WeightsError, match=r"norm\.weight.*extra\.weight"):
        stage(tmp_path)


def test_a_model_that_makes_no_embedding_is_refused(tmp_path: Path) -> None:
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8
    )
    transformers.SegformerModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))
    with pytest.raises(WeightsError, match=r"SegformerModel makes no embedding.*SigLIP 2"):
        stage(tmp_path)
    with pytest.raises(WeightsError, match="is not there"):
        stage(tmp_path / "none")


def test_numbers_that_are_none_fail_the_clip(saved: Callable[[Model], Path]) -> None:
    checked = stage(saved(dinov3))
    with torch.no_grad():
        checked._tower.norm.weight.fill_(float("nan"))
    with pytest.raises(StageError, match=r"no finite numbers.*precision=float32"):
        checked.process(pair())
