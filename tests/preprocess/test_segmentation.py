"""Parsing by segmenters of transformers: their classes by name, their pictures as they were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from preprocess.label_names import NAMES, SAPIENS2, label_table, plain
from preprocess.segmentation import Segmentation
from schemas import artifacts
from schemas.clip import Clip
from schemas.conditions import Label
from schemas.errors import WeightsError
from schemas.manifest import Part
from tests.preprocess import tiny_models as tiny
from tests.preprocess import worn
from tests.preprocess.tiny_models import one_thread  # noqa: F401

torch = pytest.importorskip("torch")
LIP = (
    "Background", "Hat", "Hair", "Glove", "Sunglasses", "UpperClothes", "Dress", "Coat", "Socks", "Pants", "Jumpsuits",
    "Scarf", "Skirt", "Face", "Left-arm", "Right-arm", "Left-leg", "Right-leg", "Left-shoe", "Right-shoe",
)  # fmt: skip
GOLIATH = tuple(name for name in SAPIENS2 if name != "Eyeglass")


def noise(frames: int, *, height: int = 96, width: int = 128, seed: int = 0) -> Clip:
    """A clip of coloured blotches."""
    small = np.random.default_rng(seed).integers(0, 256, (frames, height // 16, width // 16, 3), np.uint8)
    clip = worn.encode(small.repeat(16, 1).repeat(16, 2))
    clip.key = f"noise-{seed:08d}"
    clip.artifacts["person"] = worn.no_person(frames)
    return clip


def ready(model: str, **fields: object) -> Segmentation:
    stage = Segmentation(model=model, device="cpu", **fields)
    stage.setup()
    return stage


def lively(stage: Segmentation) -> Segmentation:
    """Random weights say the same of every picture: spread what they say, so that classes differ in places."""
    head = stage._model.decode_head
    norm, classifier = head.batch_norm, head.classifier
    norm.reset_running_stats()
    norm.running_var *= 1e-6
    classifier.weight *= 50
    return stage


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.segformer(tmp_path_factory.mktemp("segformer"))


def test_names_however_spelled() -> None:
    for spelling in ("Left-arm", "left_arm", "L arm", "LeftArm", "L-Arm", "left arm"):
        assert plain(spelling) == "left arm"
    assert {plain(name) for name in (*tiny.ATR, *LIP, *SAPIENS2)} <= set(NAMES)


def test_lip_is_the_label_space_itself() -> None:
    assert label_table(dict(enumerate(LIP)), part=Part.UPPER, where="").tolist() == list(range(20))


def test_published_sets() -> None:
    atr = label_table(dict(enumerate(tiny.ATR)), part=Part.UPPER, where="")
    assert [Label(label).name for label in atr[[4, 8, 9, 12, 15]]] == [
        "UPPER_CLOTHES", "BELT", "LEFT_SHOE", "LEFT_LEG", "RIGHT_ARM",
    ]  # fmt: skip
    for names in (SAPIENS2, GOLIATH):
        table = label_table(dict(enumerate(names)), part=Part.LOWER, where="")
        assert table[names.index("Right_Hand")] == Label.RIGHT_ARM
        assert table[names.index("Lower_Clothing")] == Label.PANTS
        assert table[names.index("Tongue")] == Label.FACE


@pytest.mark.parametrize(
    ("names", "part", "upper", "lower"),
    [
        (tiny.ATR, Part.OUTER, Label.COAT, Label.PANTS),
        (tiny.ATR, Part.DRESS, Label.UPPER_CLOTHES, Label.PANTS),  # it has dresses of its own
        (LIP, Part.OUTER, Label.UPPER_CLOTHES, Label.PANTS),  # it has coats of its own
        (SAPIENS2, Part.OUTER, Label.COAT, Label.PANTS),
        (SAPIENS2, Part.DRESS, Label.DRESS, Label.DRESS),
        (SAPIENS2, Part.INNER, Label.UPPER_CLOTHES, Label.PANTS),
    ],
)
def test_names_follow_the_part_where_the_model_cannot_tell(
    names: tuple[str, ...], part: Part, upper: Label, lower: Label
) -> None:
    table = label_table(dict(enumerate(names)), part=part, where="")
    plain_names = [plain(name) for name in names]
    for wanted, spellings in ((upper, ("upper clothes", "upper clothing")), (lower, ("pants", "lower clothing"))):
        assert {table[plain_names.index(name)] for name in spellings if name in plain_names} == {wanted}


def test_unknown_and_missing_names_are_all_named(tmp_path: Path) -> None:
    names = ("Background", "Wall", "Sky", *tiny.ATR[3:])
    with pytest.raises(WeightsError, match=r"unknown are Wall, Sky; missing are hair") as error:
        ready(tiny.segformer(tmp_path, names))
    assert str(tmp_path) in str(error.value)
    with pytest.raises(WeightsError, match="unknown are LABEL_0, LABEL_1"):
        ready(tiny.segformer(tmp_path / "unnamed", tuple(f"LABEL_{index}" for index in range(18))))


def test_a_checkpoint_with_other_keys_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = Path(tiny.segformer(tmp_path)) / "model.safetensors"
    values = load_file(file)
    values["decode_head.extra"] = torch.zeros(2)
    values["decode_head.classifier.bias"] = torch.zeros(7)
    del values["decode_head.batch_norm.weight"]
    save_file(values, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError) as error:
        ready(str(tmp_path))
    for words in (
        "lacks decode_head.batch_norm.weight",
        "besides decode_head.extra",
        "classifier.bias is (7,), not (18,)",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", "{", "no model of transformers"),
        ("config.json", None, "no model of transformers"),
        ("model.safetensors", "rubbish", "cannot read this"),
        ("model.safetensors", None, "cannot read this"),
        ("preprocessor_config.json", None, "how pictures are made ready"),
        ("preprocessor_config.json", "[]", "how pictures are made ready"),
        ("preprocessor_config.json", '{"resample": 1}', "how pictures are made ready"),
    ],
)
def test_broken_folders_are_named(tmp_path: Path, file: str, content: str | None, words: str) -> None:
    folder = Path(tiny.segformer(tmp_path))
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(WeightsError, match=words) as error:
        ready(str(folder))
    assert str(folder) in str(error.value)


def test_as_transformers_own_processor_and_model_have_it(model: str) -> None:
    from transformers.models.segformer.image_processing_pil_segformer import SegformerImageProcessorPil

    from media import frames

    clip, stage = noise(2, height=160, width=96), lively(ready(model))
    stage.process(clip)
    artifacts.check("parsing", clip.artifacts["parsing"], clip)
    processor = SegformerImageProcessorPil.from_pretrained(model)
    inputs = processor(list(frames(clip).images), return_tensors="pt")
    logits = stage._model(pixel_values=inputs["pixel_values"]).logits
    classes = torch.nn.functional.interpolate(logits, (160, 96), mode="bilinear").argmax(1).numpy()
    wanted = label_table(dict(enumerate(tiny.ATR)), part=Part.UPPER, where="")[classes]
    assert len(np.unique(wanted)) > 3
    assert np.mean(wanted == clip.artifacts["parsing"]) > 0.995


def test_only_the_surroundings_of_the_person_are_looked_at(model: str) -> None:
    clip, stage = noise(4), ready(model, crop_margin=0)
    stage._model.decode_head.classifier.bias[0] = -1e4  # background is never seen
    clip.artifacts["person"].boxes[:] = [48, 24, 80, 72]
    stage.process(clip)
    inside = np.zeros((96, 128), bool)
    inside[24:72, 48:80] = True
    assert np.array_equal(clip.artifacts["parsing"] > 0, np.repeat(inside[None], 4, axis=0))


def test_batches_change_nothing(model: str) -> None:
    clips = [noise(5, seed=1), noise(3, height=64, width=64, seed=2), noise(1, seed=3)]
    clips[0].artifacts["person"].boxes[:, :] = [[10 * frame, 8, 60 + 10 * frame, 90] for frame in range(5)]
    alone, together = lively(ready(model, batch=1)), lively(ready(model, batch=4))
    together.process_batch(clips)
    for clip in clips:
        given = clip.artifacts.pop("parsing")
        alone.process(clip)
        artifacts.check("parsing", given, clip)
        assert len(np.unique(given)) > 2
        assert np.mean(given == clip.artifacts["parsing"]) > 0.999


@pytest.mark.parametrize("names", [SAPIENS2, None])
def test_sapiens2_named_or_not(tmp_path: Path, names: tuple[str, ...] | None) -> None:
    clip = noise(2)
    ready(tiny.sapiens2(tmp_path, names)).process(clip)
    artifacts.check("parsing", clip.artifacts["parsing"], clip)


def test_half_precision_and_size_from_the_model(tmp_path: Path) -> None:
    folder = Path(tiny.sapiens2(tmp_path))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Sapiens2ImageProcessor"}))
    clip, stage = noise(1), ready(str(folder), precision="bfloat16")
    stage.process(clip)
    assert stage._shape == (64, 48)
    artifacts.check("parsing", clip.artifacts["parsing"], clip)
