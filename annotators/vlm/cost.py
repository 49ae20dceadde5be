"""What requests cost, counted before they are asked: pictures and tokens. Pure functions.

Tokens of pictures and of the chat's frame are those of Qwen2.5-VL and Qwen3-VL, exactly. Tokens of words are exact with
the model's own tokenizer, else estimated. How long an answer will be is always an estimate, below `Request.max_tokens`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from annotators.vlm.answers import Fault, FaultKind
from annotators.vlm.backend import Reply, Request
from annotators.vlm.messages import chat_messages
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.questions import repair_request
from annotators.vlm.transformers_settings import TransformersSettings
from schemas.errors import WeightsError

_MARKS_OF_MESSAGE = 2
"""<|im_start|> and <|im_end|>."""
_MARKS_OF_PICTURE = 2
"""<|vision_start|> and <|vision_end|>."""
_FREE_TEXT = "A person stands facing the camera and slowly adjusts the collar of the shirt with both hands, then turns."
"""An answer in free words counts as this long."""
_FAULT = Fault(FaultKind.NOT_JSON, "it is not one JSON object and nothing else")

_EAST_ASIAN = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uff00-\uffef]")
_LETTERS = re.compile(r"[^\W\d_]|\s")
_SINGLE = re.compile(r"\d|\s(?=\d)|[^\w\s]+|_+")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of some requests. Not whole numbers where a sample was scaled up.

    Attributes:
        requests: how many.
        pictures: that are sent with them.
        picture_tokens, text_tokens: of the prompts.
        answer_tokens: expected.
        longest_answer_tokens: were every answer as long as it may be.

    """

    requests: float = 0
    pictures: float = 0
    picture_tokens: float = 0
    text_tokens: float = 0
    answer_tokens: float = 0
    longest_answer_tokens: float = 0

    @property
    def prompt_tokens(self) -> float:
        """Of pictures and text."""
        return self.picture_tokens + self.text_tokens

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Cost)})

    def __mul__(self, factor: float) -> Cost:
        return Cost(**{field.name: getattr(self, field.name) * factor for field in fields(Cost)})


def total(costs: Iterable[Cost]) -> Cost:
    """All together."""
    return sum(costs, start=Cost())


@dataclass(frozen=True, kw_only=True)
class TokenRule:
    """How a model turns requests into tokens.

    Attributes:
        side: pixels of the square that one token stands for, along its side.
        min_pixels, max_pixels: pictures are scaled to lie between.
        longest_side: pictures are first scaled down to this longer side, in pixels.
        text: how many tokens a text has.
        exact_text: whether `text` is the model's own tokenizer.
        origin: where the rule of pictures comes from, in words.

    """

    side: int
    min_pixels: int
    max_pixels: int
    longest_side: int | None = None
    text: Callable[[str], int]
    exact_text: bool = False
    origin: str

    def cost(self, request: Request) -> Cost:
        """Of one try of `request`, in the chat format of Qwen."""
        messages = chat_messages(request, lambda picture: {})
        written = [part["text"] for message in messages for part in message["content"] if part]
        frame = [words for message in messages for words in (f"{message['role']}\n", "\n")]
        return Cost(
            requests=1,
            pictures=len(request.pictures),
            picture_tokens=sum(self.picture_tokens(*picture.image.shape[:2]) for picture in request.pictures),
            text_tokens=sum(map(self.text, (*written, *frame, "assistant\n"))) + _MARKS_OF_MESSAGE * len(messages) + 1,
            answer_tokens=min(self.text(expected_answer(request.schema)), request.max_tokens),
            longest_answer_tokens=request.max_tokens,
        )

    def repair_cost(self, request: Request) -> Cost:
        """Of the second try at `request`."""
        answer = Reply(key=request.key, text=expected_answer(request.schema))
        return self.cost(repair_request(request, answer, _FAULT))

    def picture_tokens(self, height: int, width: int) -> int:
        """Of a picture of `height` x `width` px, with its two marks.

        Scaled to whole squares of `side` px, its shape kept as well as may be (`smart_resize` of Qwen2-VL and later).
        """
        if self.longest_side:
            scale = min(1.0, self.longest_side / max(height, width))
            height, width = max(1, round(height * scale)), max(1, round(width * scale))
        rows, columns = max(1, round(height / self.side)), max(1, round(width / self.side))
        pixels = rows * columns * self.side**2
        if pixels > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            rows, columns = (max(1, math.floor(length / shrink / self.side)) for length in (height, width))
        elif pixels < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            rows, columns = (math.ceil(length * grow / self.side) for length in (height, width))
        return rows * columns + _MARKS_OF_PICTURE


def rule_for(settings: OpenAISettings | TransformersSettings) -> TokenRule:
    """How the model of `settings` counts: by its files where they are here, else by its name.

    Raises:
        WeightsError: the folder of the model is not there, or lacks its tokenizer or config.

    """
    if isinstance(settings, TransformersSettings):
        return _rule_of_folder(settings)
    name = settings.model.lower()
    known = {"qwen3": ("Qwen3-VL", 32, 65_536, 16_777_216), "qwen2": ("Qwen2.5-VL", 28, 3_136, 12_845_056)}
    family = next((family for mark, family in known.items() if mark in name), None)
    title, side, least, most = family or known["qwen2"]
    return TokenRule(
        side=side,
        min_pixels=least,
        max_pixels=most,
        longest_side=settings.max_picture_side,
        text=estimated_tokens,
        origin=f"as {title}, by the name of the model"
        if family
        else f"as {title}, since {settings.model!r} is not known",
    )


def _rule_of_folder(settings: TransformersSettings) -> TokenRule:
    import weights

    folder = weights.path(settings.model)
    try:
        vision = json.loads((folder / "config.json").read_text("utf-8"))["vision_config"]
        side = int(vision["patch_size"]) * int(vision["spatial_merge_size"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"how many tokens a picture takes cannot be told: {error}",
            where=str(folder / "config.json"),
            allowed="Qwen2.5-VL, Qwen3-VL, or what has the same vision_config",
        ) from error
    return TokenRule(
        side=side,
        min_pixels=settings.min_pixels,
        max_pixels=settings.max_pixels,
        text=_tokenizer(folder),
        exact_text=True,
        origin="by the model's own files",
    )


def _tokenizer(folder: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # what tokenizers raises has no type of its own
        raise WeightsError(f"the tokenizer cannot be read: {error}", where=str(folder / "tokenizer.json")) from error

    @cache
    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return count


@cache
def estimated_tokens(text: str) -> int:
    """About how many tokens `text` has in Qwen's vocabulary: within a tenth for the prompts here, either language.

    A token for each digit, the space before it, and run of other marks; 1 for 5 letters or spaces; 3 for 4 Chinese
    characters. The usual rule of 4 characters a token is out by half for numbers, JSON and Chinese.
    """
    east_asian, text = len(_EAST_ASIAN.findall(text)), _EAST_ASIAN.sub("", text)
    return math.ceil(len(_LETTERS.findall(text)) / 5 + len(_SINGLE.findall(text)) + east_asian * 0.75)


def expected_answer(schema: Mapping[str, Any]) -> str:
    """An answer that fits `schema`, of usual length."""
    return json.dumps(_value(schema), separators=(",", ":"), ensure_ascii=False) if schema else _FREE_TEXT


def _value(schema: Mapping[str, Any]) -> Any:
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return sorted(schema["enum"], key=len)[len(schema["enum"]) // 2]
    if schema.get("type") == "object":
        return {name: _value(part) for name, part in schema["properties"].items()}
    return False if schema.get("type") == "boolean" else _FREE_TEXT
