"""A vision-language model of transformers, loaded from a folder, and how it answers a batch.

Shapes: B requests, L tokens of the longest prompt, N tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from PIL import Image
from qwen_vl_utils import process_vision_info
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig, LogitsProcessorList
from transformers.utils import logging

import weights
from annotators.vlm.backend import Picture, Refusal, Reply, Request
from annotators.vlm.constrained import Constraint, Step, Vocabulary
from annotators.vlm.messages import chat_messages
from annotators.vlm.transformers_settings import TransformersSettings
from schemas.errors import ConfigError, WeightsError


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A request as the processor takes it: text with the model's marks in place of pictures, and these."""

    request: Request
    text: str
    images: list[Image.Image]


class Model:
    """Weights, processor and vocabulary.

    Raises:
        WeightsError: the folder is absent, or holds no whole vision-language model with a chat template.
        ConfigError: device or attention cannot be had here.

    """

    def __init__(self, settings: TransformersSettings) -> None:
        self._settings = settings
        self._device = _device(settings.device)
        folder = weights.path(settings.model)
        self._processor = _processor(folder)
        self._network = _network(folder, settings=settings, device=self._device)
        words, tokenizer = self._network.config.get_text_config(), self._processor.tokenizer
        self._context: int = words.max_position_embeddings
        ends = sorted({*_ids(self._network.generation_config.eos_token_id), *_ids(tokenizer.eos_token_id)})
        try:
            self._vocabulary = Vocabulary(tokenizer, size=words.vocab_size, ends=ends)
        except ValueError as error:
            raise _broken(folder, f"its tokenizer does not fit the model: {error}") from error
        # Published generation configs sample and punish repetition, which would bend answers and probabilities.
        padding = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        temperature = settings.temperature
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        self._network.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=padding, **sampling)

    def prompt(self, request: Request) -> Prompt | Refusal:
        """The request in the model's own chat template, with its pictures scaled."""
        messages = chat_messages(request, self._picture_part)
        text = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if not self._scales_as_qwen:
            images = [Image.fromarray(picture.image) for picture in request.pictures]
            return Prompt(request=request, text=text, images=images)
        try:
            images, _ = process_vision_info(messages, image_patch_size=self._processor.image_processor.patch_size)
        except ValueError as error:  # a strip, more than 200 times as long as wide
            return Refusal(key=request.key, why=f"a picture cannot be shown to the model: {error}")
        return Prompt(request=request, text=text, images=images or [])

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Prompt]) -> list[Reply | Refusal]:
        """One for each of the B prompts; all of them or none have pictures.

        Raises:
            torch.OutOfMemoryError: they are too many at once.

        """
        if not prompts:
            return []
        inputs = self._inputs(prompts)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        fitting = [prompt for prompt, length in zip(prompts, lengths, strict=True) if self._fits(prompt, length)]
        if len(fitting) < len(prompts):
            why = f"the question is longer than the {self._context} tokens that the model takes, answer included"
            refused = [Refusal(key=prompt.request.key, why=why) for prompt in prompts if prompt not in fitting]
            return [*refused, *self.answers(fitting)]
        constraint = self._constraint(prompts)
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(crc32("\n".join(prompt.text for prompt in prompts).encode()))
            generated = self._network.generate(
                **inputs,
                max_new_tokens=max(prompt.request.max_tokens for prompt in prompts),
                logits_processor=LogitsProcessorList([constraint]),
            )
        answers = constraint.steps(generated[:, inputs["input_ids"].shape[1] :])
        return [
            self._reply(prompt.request, steps, length)
            for prompt, steps, length in zip(prompts, answers, lengths, strict=True)
        ]

    @property
    def _scales_as_qwen(self) -> bool:
        """Whether pictures are to be whole numbers of two by two patches, as qwen-vl-utils scales them."""
        return getattr(self._processor.image_processor, "merge_size", None) == 2

    def _picture_part(self, picture: Picture) -> dict[str, Any]:
        limits = {"min_pixels": self._settings.min_pixels, "max_pixels": self._settings.max_pixels}
        return {"type": "image", "image": Image.fromarray(picture.image), **limits}

    def _inputs(self, prompts: Sequence[Prompt]) -> Any:
        """(B, L) tokens padded on the left, so that answers begin at one place, and the pictures' patches."""
        pictures: dict[str, Any] = {"images": [prompt.images for prompt in prompts]} if prompts[0].images else {}
        if pictures and self._scales_as_qwen:
            pictures["do_resize"] = False
        inputs = self._processor(
            text=[prompt.text for prompt in prompts],
            **pictures,
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        return inputs.to(self._device, self._network.dtype)

    def _fits(self, prompt: Prompt, length: int) -> bool:
        return length + prompt.request.max_tokens <= self._context

    def _constraint(self, prompts: Sequence[Prompt]) -> Constraint:
        schemas = [prompt.request.schema if self._settings.structured else {} for prompt in prompts]
        matchers = [self._vocabulary.matcher(schema) if schema else None for schema in schemas]
        return Constraint(matchers, top=self._settings.top_logprobs)

    def _reply(self, request: Request, steps: Sequence[Step], prompt_tokens: int) -> Reply:
        steps = steps[: request.max_tokens]
        end = next((place for place, step in enumerate(steps, 1) if self._vocabulary.ends(step.chosen)), None)
        tokens = self._vocabulary.tokens(steps[:end])
        return Reply(
            key=request.key,
            text="".join(token.text for token in tokens),
            tokens=tokens,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(steps[:end]),
            ended="stop" if end else "length",
        )


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"torch cannot use {wanted!r}: {str(error).splitlines()[0]}", where="device") from error


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    if precision == "auto":
        precision = "float32" if device.type == "cpu" else "bfloat16"
    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[precision]


def _processor(folder: Path) -> Any:
    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise _broken(folder, f"its processor cannot be loaded: {error}") from error
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise _broken(folder, "it is no vision-language model: it has no processor of pictures and text")
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    if not processor.chat_template:
        raise _broken(folder, "it has no chat template")
    return processor


def _network(folder: Path, *, settings: TransformersSettings, device: torch.device) -> Any:
    logging.disable_progress_bar()
    attention = None if settings.attention == "auto" else settings.attention
    try:
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            attn_implementation=attention,
            dtype=_dtype(settings.precision, device),
        )
    except ImportError as error:
        raise ConfigError(f"{attention} is not there: {str(error).splitlines()[0]}", where="attention") from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _broken(folder, f"the model cannot be loaded: {error}") from error
    network, found = loaded
    if missing := sorted(found["missing_keys"]):  # which transformers has filled with random numbers
        raise _broken(folder, f"{len(missing)} weights are absent, e.g. {missing[0]}")
    return network.to(device).eval()


def _broken(folder: Path, what: str) -> WeightsError:
    return WeightsError(
        " ".join(what.split())[:400],
        where=str(folder),
        allowed="a folder of a model that AutoModelForImageTextToText loads, such as Qwen2.5-VL or Qwen3-VL, with its "
        "processor and chat template",
    )


def _ids(ends: int | Sequence[int] | None) -> Sequence[int]:
    if ends is None:
        return ()
    return [ends] if isinstance(ends, int) else ends
