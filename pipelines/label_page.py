"""The page of `vvt label --dry-run`: the first requests as they would be sent, in one self-contained file."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from annotators.vlm.backend import Picture
from annotators.vlm.cost import Cost, TokenRule, expected_answer, rule_for
from annotators.vlm.messages import chat_messages
from annotators.vlm.openai_messages import Bodies
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.rehearsal import Asked
from annotators.vlm.stage import VlmLabels
from annotators.vlm.transformers_settings import TransformersSettings

_TEMPLATE = Path(__file__).with_name("label_template.html")
_QUALITY = 90
"""Of the JPEGs on the page, where the backend is shown the pixels themselves."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A request on the page.

    Attributes:
        key, kind, max_tokens: of the request.
        words: role → text, of the messages but for the pictures and their numbers.
        pictures: words before each, and its data URI.
        schema: of the answer, as JSON.
        answer: one that would fit it.
        cost: of the request.
        certain: whether it is asked whatever the model says before.

    """

    key: str
    kind: str
    max_tokens: int
    words: tuple[tuple[str, str], ...]
    pictures: tuple[tuple[str, str], ...]
    schema: str
    answer: str
    cost: Cost
    certain: bool


def page_of(questions: Sequence[Asked], stage: VlmLabels) -> str:
    """HTML that shows `questions`."""
    rule = rule_for(stage.backend)
    return _template().render(stage=stage, shown=[_shown(asked, stage, rule) for asked in questions], rule=rule)


def _shown(asked: Asked, stage: VlmLabels, rule: TokenRule) -> Shown:
    request = asked.request
    parts = [(message["role"], part) for message in _messages(asked, stage.backend) for part in message["content"]]
    words: list[tuple[str, str]] = []
    pictures: list[tuple[str, str]] = []
    for role, part in parts:
        if part["type"] == "text":
            words.append((role, part["text"]))
        else:
            _, before = words.pop()
            pictures.append((before, part["image_url"]["url"]))
    return Shown(
        key=request.key,
        kind=asked.kind,
        max_tokens=request.max_tokens,
        words=tuple(words),
        pictures=tuple(pictures),
        schema=json.dumps(request.schema, indent=1, ensure_ascii=False),
        answer=expected_answer(request.schema),
        cost=rule.cost(request),
        certain=asked.kind not in ("boundary", "category"),
    )


def _messages(asked: Asked, settings: OpenAISettings | TransformersSettings) -> list[dict[str, Any]]:
    """As the server would get them; to a model in process, as OpenAI's API would write them."""
    if isinstance(settings, OpenAISettings):
        messages: list[dict[str, Any]] = json.loads(Bodies(settings).of(asked.request))["messages"]
        return messages
    return chat_messages(asked.request, _picture_part)


def _picture_part(picture: Picture) -> dict[str, Any]:
    stream = io.BytesIO()
    Image.fromarray(picture.image).save(stream, format="JPEG", quality=_QUALITY)
    url = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": url}}


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
