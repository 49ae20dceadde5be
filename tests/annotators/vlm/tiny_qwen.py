"""Tiny Qwen2.5-VL and Qwen3-VL checkpoints with random weights and a real processor, built offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from weights.torchvision_operators import declare_missing_operators

Kind = Literal["qwen2_5", "qwen3"]

CHAT_TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}\
{% endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

_MARKS = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
_SPECIAL = [f"<|{name}|>" for name in ("endoftext", "im_start", "im_end", *_MARKS.values())]
_TEXT = ['{"id":"a clip#1","frames":[{"frame":1,"interactive":true},{"frame":2,"interactive":false}]}'] * 10
"""What the tokenizer is trained on: some words become one token, all other text is spelled in bytes."""


def build(kind: Kind, folder: Path) -> Path:
    """Write a checkpoint of about 0.3 million weights into `folder`."""
    declare_missing_operators()
    import torch
    import transformers as hf

    tokenizer = _tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL}
    text: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 13,  # more than the tokenizer knows, as in the published models
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
    }
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 64,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if kind == "qwen2_5":
        config, network = hf.Qwen2_5_VLConfig, hf.Qwen2_5_VLForConditionalGeneration
        processor, video_processor = hf.Qwen2_5_VLProcessor, hf.Qwen2VLVideoProcessor
        vision |= {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1]}
    else:
        config, network = hf.Qwen3VLConfig, hf.Qwen3VLForConditionalGeneration
        processor, video_processor = hf.Qwen3VLProcessor, hf.Qwen3VLVideoProcessor
        vision |= {"patch_size": 16, "deepstack_visual_indexes": [0], "num_position_embeddings": 256}
        text["head_dim"] = 16
        text["rope_parameters"]["mrope_interleaved"] = True
    places = {f"{name}_token_id": ids[f"<|{mark}|>"] for name, mark in _MARKS.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network(config(text_config=text, vision_config=vision, **places))
    # As in the published models: sampling that punishes repetition, which the backend must not take over.
    sampling = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
    model.generation_config = hf.GenerationConfig(
        eos_token_id=[ids["<|im_end|>"], ids["<|endoftext|>"]], pad_token_id=ids["<|endoftext|>"], **sampling
    )
    model.save_pretrained(folder)
    sizes = {"patch_size": vision["patch_size"], "merge_size": 2, "temporal_patch_size": 2}
    processor(
        image_processor=hf.Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=video_processor(**sizes),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = Tokenizer(models.BPE())
    words.pre_tokenizer, words.decoder = bytes_of, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=bytes_of.alphabet(), show_progress=False)
    words.train_from_iterator(_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=_SPECIAL,
    )
