"""Captions as tokens: those of diffusers' own pipeline on the same weights."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from schemas.errors import MissingExtraError, WeightsError
from training.text import MAX_TOKENS, TextEncoder, clean
from training.tiny import TEXT_WIDTH

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = ["", "A person pulls the hem.", "  Zips\t &amp;amp; smiles\n", "Ménage à trois — 拉链", "long " * 200]


@pytest.fixture
def encoder(checkpoint: Path) -> TextEncoder:
    return TextEncoder.load(checkpoint)


def counted(encoder: TextEncoder) -> list[int]:
    """Grows by the number of texts whenever the network runs."""
    runs: list[int] = []
    encoder.network.register_forward_hook(lambda _, inputs, __: runs.append(len(inputs[0])))
    return runs


def test_embeddings_are_those_of_the_pipeline(checkpoint: Path, encoder: TextEncoder) -> None:
    from diffusers import WanVACEPipeline

    pipeline = WanVACEPipeline.from_pretrained(checkpoint, local_files_only=True)
    theirs = pipeline._get_t5_prompt_embeds(TEXTS, max_sequence_length=MAX_TOKENS)
    ours = encoder.encode(TEXTS)
    assert [len(tokens) for tokens in ours] == [1, 24, 14, 28, 512]
    for tokens, padded in zip(ours, theirs, strict=True):
        torch.testing.assert_close(tokens, padded[: len(tokens)], atol=1e-5, rtol=1e-5)
        assert not padded[len(tokens) :].any()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        (" \n ", ""),
        ("pulls  the\n hem ", "pulls the hem"),
        ("zips &amp;amp; smiles", "zips & smiles"),
        ("zips <3 &amp;amp; smiles", "zips <3 & smiles"),  # where ftfy takes entities for meant
        ("doesnâ€™t", "doesn't"),
        ("拉链", "拉链"),
    ],
)
def test_clean(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_captions_side_by_side(encoder: TextEncoder) -> None:
    captions = encoder.captions(["ab", "", "c"], [[(1, "x"), (3, "")], [], [(0, "yz")]])
    ab, x, empty, c, yz = encoder.encode(["ab", "x", "", "c", "yz"])
    assert captions.tokens.shape == (3, 6, TEXT_WIDTH)  # each caption ends with its end token
    torch.testing.assert_close(captions.tokens[0], torch.cat([ab, x, empty]))
    torch.testing.assert_close(captions.tokens[1, :1], empty)
    torch.testing.assert_close(captions.tokens[2, :5], torch.cat([c, yz]))
    assert captions.mask.tolist() == [[True] * 6, [True] + [False] * 5, [True] * 5 + [False]]
    assert not captions.tokens[~captions.mask].any()
    assert captions.segments.tolist() == [[-1, -1, -1, 1, 1, 3], [-1] * 6, [-1, -1, 0, 0, 0, -1]]
    assert captions.segments.dtype == torch.int64


def test_what_is_remembered_is_not_encoded_again(encoder: TextEncoder) -> None:
    runs = counted(encoder)
    first = encoder.encode(["a", "b", "a"])
    again = encoder.encode(["b", "a  "])
    assert runs == [2]
    assert torch.equal(first[0], first[2])
    assert torch.equal(first[0], again[1])


def test_memory_of_captions_is_bounded(encoder: TextEncoder) -> None:
    small = TextEncoder(encoder.network, encoder.tokenizer, remembered=12)
    small.encode(["kept", "lost"])  # five tokens each
    small.encode(["kept", "more"])
    runs = counted(small)
    small.encode(["kept"])
    assert runs == []
    small.encode(["lost"])
    assert runs == [1]


def test_more_at_once_than_is_remembered(encoder: TextEncoder) -> None:
    small = TextEncoder(encoder.network, encoder.tokenizer, remembered=4)
    texts = ["longer"] + [str(number) for number in range(20)]
    for ours, theirs in zip(small.encode(texts), encoder.encode(texts), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_bfloat16(checkpoint: Path, encoder: TextEncoder) -> None:
    halved = TextEncoder.load(checkpoint, dtype=torch.bfloat16)
    captions = halved.captions([TEXTS[1]], [[]])
    assert captions.tokens.dtype == torch.bfloat16
    torch.testing.assert_close(captions.tokens[0].float(), encoder.encode([TEXTS[1]])[0], atol=0.1, rtol=0.1)


def test_what_is_encoded_is_not_trained(encoder: TextEncoder) -> None:
    assert not encoder.encode(["a"])[0].requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())


def test_no_ftfy(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MissingExtraError, match=r"vvt-interact\[train\]"):
        encoder.encode(["a"])


@pytest.mark.parametrize("part", ["tokenizer", "text_encoder"])
def test_a_part_is_absent(tmp_path: Path, checkpoint: Path, part: str) -> None:
    for other in {"tokenizer", "text_encoder"} - {part}:
        (tmp_path / other).symlink_to(checkpoint / other)
    with pytest.raises(WeightsError, match=f"{tmp_path}/{part}"):
        TextEncoder.load(tmp_path)


def test_weights_are_missing(tmp_path: Path, checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "text_encoder" / "model.safetensors"
    values: dict[str, Any] = load_file(file)
    del values["encoder.block.1.layer.1.DenseReluDense.wi_0.weight"]
    save_file(values, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="lacks encoder.block.1.layer.1.DenseReluDense.wi_0.weight"):
        TextEncoder.load(tmp_path)
    file.write_bytes(b"\0" * 64)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        TextEncoder.load(tmp_path)
