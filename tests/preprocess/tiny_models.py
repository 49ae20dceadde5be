"""Models of transformers in the published layouts, tiny and with random weights, in a folder each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weights.torchvision_operators import declare_missing_operators

torch = pytest.importorskip("torch")
declare_missing_operators()
transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Modules that import this run their small models on one thread: on several they mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


ATR = (
    "Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress", "Belt", "Left-shoe",
    "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm", "Right-arm", "Bag", "Scarf",
)  # fmt: skip
"""Classes of mattmdjaga/segformer_b2_clothes."""


def segformer(folder: Path, names: tuple[str, ...] = ATR, *, seed: int = 0, side: int = 64) -> str:
    """SegFormer with these classes, in the layout of SegFormer-clothes."""
    torch.manual_seed(seed)
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], decoder_hidden_size=16, num_attention_heads=[1, 1, 2, 2],
        id2label=dict(enumerate(names)), label2id={name: index for index, name in enumerate(names)},
    )  # fmt: skip
    return saved(transformers.SegformerForSemanticSegmentation(config), folder, {"height": side, "width": side})


def sapiens2(folder: Path, names: tuple[str, ...] | None = None) -> str:
    """Sapiens2's segmenter with these classes; with none, as transformers saves models of unnamed classes."""
    torch.manual_seed(0)
    named = {"id2label": dict(enumerate(names))} if names else {"num_labels": 29}
    config = transformers.Sapiens2Config(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=[64, 48],
        head_config={"upsample_out_channels": [16, 16], "conv_out_channels": [16]}, **named,
    )  # fmt: skip
    return saved(transformers.Sapiens2ForSemanticSegmentation(config), folder, {"height": 64, "width": 48})


_DECODER = {
    "mask_decoder_config": {"hidden_size": 128, "mlp_dim": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                            "iou_head_hidden_dim": 16},
    "memory_attention_hidden_size": 128, "memory_attention_num_layers": 1,
    "memory_attention_feed_forward_hidden_size": 16, "memory_encoder_hidden_size": 128,
    "mask_downsampler_embed_dim": 128, "memory_fuser_embed_dim": 128, "memory_fuser_intermediate_dim": 16,
}  # fmt: skip


def _sure(model: Any) -> Any:
    """`model`, always of the opinion that what it follows is there."""
    torch.nn.init.constant_(model.mask_decoder.pred_obj_score_head.proj_out.bias, 10)
    return model


def sam2(folder: Path) -> str:
    """SAM 2's video model, of 128 px."""
    torch.manual_seed(0)
    config = transformers.Sam2VideoConfig(
        image_size=128, memory_attention_rope_feat_sizes=[8, 8],
        prompt_encoder_config={"hidden_size": 128, "image_size": 128, "mask_input_channels": 4},
        vision_config={
            "model_type": "sam2_vision_model", "fpn_hidden_size": 128, "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1,
                "image_size": [128, 128], "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 2, 2], "global_attention_blocks": [3],
                "window_size_per_stage": [4, 4, 4, 4], "window_positional_embedding_background_size": [4, 4],
            },
        }, **_DECODER,
    )  # fmt: skip
    return saved(_sure(transformers.Sam2VideoModel(config)), folder, {"height": 128, "width": 128})


def sam3(folder: Path) -> str:
    """SAM 3's tracker, of 112 px."""
    torch.manual_seed(0)
    config = transformers.Sam3TrackerVideoConfig(
        image_size=112,
        prompt_encoder_config={"hidden_size": 128, "image_size": 112, "patch_size": 14, "mask_input_channels": 4},
        vision_config={
            "model_type": "sam3_vision_model", "fpn_hidden_size": 128,
            "backbone_config": {
                "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
                "num_attention_heads": 2, "image_size": 112, "patch_size": 14, "window_size": 4,
                "global_attn_indexes": [1], "pretrain_image_size": 112,
            },
        }, **_DECODER,
    )  # fmt: skip
    return saved(_sure(transformers.Sam3TrackerVideoModel(config)), folder, {"height": 112, "width": 112})


def sam3_as_published(folder: Path) -> str:
    """The same as facebook/sam3 has it: beside a detector, whose backbone it shares, all under names of their own."""
    from safetensors.torch import load_file, save_file

    sam3(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "sam3_video", "tracker_config": config}))
    weights = {"detector_model.detr_encoder.weight": torch.zeros(3)}
    for name, value in load_file(folder / "model.safetensors").items():
        if name.startswith("vision_encoder.neck."):
            weights[name.replace("vision_encoder.neck.", "tracker_neck.")] = value
        elif name.startswith("vision_encoder."):
            weights[f"detector_model.{name}"] = value
        else:
            weights[f"tracker_model.{name}"] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def saved(model: Any, folder: Path, size: dict[str, int]) -> str:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": size, "do_resize": True, "do_rescale": True, "do_normalize": True, "resample": 2,
                    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]})
    )  # fmt: skip
    return str(folder)
