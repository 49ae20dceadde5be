"""Requests and replies as OpenAI's Chat Completions API writes them."""

from __future__ import annotations

import base64
import codecs
import json
import math
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from annotators.vlm.backend import Picture, Refusal, Reply, Request, Token
from annotators.vlm.messages import chat_messages
from annotators.vlm.openai_settings import OpenAISettings

_THOUGHT_ENDS = "</think>"


class BrokenReplyError(ValueError):
    """A reply that is none: not JSON, or without an answer in it. The next try may bring a whole one."""


class Bodies:
    """Makes the bodies of requests. A picture that several of them show is encoded once, while somebody holds it."""

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._urls: WeakKeyDictionary[Picture, str] = WeakKeyDictionary()

    def of(self, request: Request) -> bytes:
        """The body of `request`: JSON, with each picture as a JPEG after its number and time."""
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": chat_messages(request, self._picture_part),
            "max_tokens": request.max_tokens,
            "temperature": settings.temperature,
        }
        if settings.logprobs:
            body |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
        if request.schema:
            body |= _constraint(dict(request.schema), settings.structured)
        body |= settings.extra_body
        return json.dumps({name: value for name, value in body.items() if value is not None}).encode()

    def _picture_part(self, picture: Picture) -> dict[str, Any]:
        url = self._urls.get(picture)
        if url is None:
            jpeg = base64.b64encode(_jpeg(picture.image, self._settings))
            url = self._urls[picture] = "data:image/jpeg;base64," + jpeg.decode()
        return {"type": "image_url", "image_url": {"url": url}}


def _jpeg(image: NDArray[np.uint8], settings: OpenAISettings) -> bytes:
    import cv2

    height, width = image.shape[:2]
    scale = settings.max_picture_side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality])[1].tobytes()


def _constraint(schema: dict[str, Any], way: str) -> dict[str, Any]:
    if way == "json_schema":
        named = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if way == "structured_outputs":
        return {"structured_outputs": {"json": schema}}
    return {"guided_json": schema} if way == "guided_json" else {}


def answer_in(data: bytes, *, key: str) -> Reply | Refusal:
    """What the body of a successful response says.

    A model's reasoning is no part of the answer: neither what the server keeps apart (`reasoning_content`), nor what
    stands before `</think>` in the text. Nothing else in the text is touched.

    Returns:
        A refusal where the model says nothing, used up its tokens on reasoning, or its server filtered the answer.

    Raises:
        BrokenReplyError: it is not JSON, or has no choice with a message.

    """
    try:
        response = json.loads(data)
        choice = response["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        whole = _text(message.get("content"))
    except (ValueError, RecursionError) as error:
        raise BrokenReplyError("the reply is not JSON") from error
    except (LookupError, TypeError, AttributeError) as error:
        raise BrokenReplyError(f"the reply holds no answer: {words_of(data)}") from error
    if ended in ("abort", "error"):
        raise BrokenReplyError(f"the server broke off ({ended})")
    text = "" if whole.lstrip().startswith("<think>") else whole
    if _THOUGHT_ENDS in whole:
        text = whole.rpartition(_THOUGHT_ENDS)[2]
    if ended == "content_filter" or message.get("refusal"):
        return Refusal(key=key, why=f"the server withholds the answer: {message.get('refusal') or ended!s:.300}")
    if not text.strip():
        why = "max_tokens went by before it began to answer" if ended == "length" else "the model answers nothing"
        return Refusal(key=key, why=why)
    usage = response.get("usage")
    return Reply(
        key=key,
        text=text,
        tokens=_tokens(choice.get("logprobs"), text),
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        ended="length" if ended == "length" else "stop",
    )


def _text(content: Any) -> str:
    """Content is text or, from some servers, a list of parts of which some are text."""
    if isinstance(content, list):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    text: str = "" if content is None else content
    text.encode()  # JSON may hold halves of characters, which nobody could write down
    return text


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else 0
    return value if isinstance(value, int) and value > 0 else 0


def _tokens(logprobs: Any, text: str) -> tuple[Token, ...]:
    """The tokens that make up `text`; none where the server gives none, or others than those of `text`.

    Servers list the tokens of the reasoning before it, and the one that ends the answer after it.
    """
    try:
        items = logprobs["content"]
        texts = _token_texts(items)
        start = "".join(texts).rfind(text)
        if start < 0:
            return ()
        ends = accumulate(map(len, texts))
        inside = [
            (item, own[max(0, start - end + len(own)) : max(0, start + len(text) - end + len(own))])
            for item, own, end in zip(items, texts, ends, strict=True)
        ]
        return tuple(_token(item, own) for item, own in inside if own)
    except (LookupError, TypeError, ValueError, AttributeError):
        return ()


def _token(item: dict[str, Any], text: str) -> Token:
    logprob = _logprob(item)
    others = {"".join(_token_texts([top])): _logprob(top) for top in reversed(item.get("top_logprobs") or ())}
    return Token(text=text, logprob=logprob, others=others | {text: logprob})


def _logprob(item: dict[str, Any]) -> float:
    value = float(item["logprob"])
    if math.isnan(value):
        raise ValueError("a probability is no number")
    return min(value, 0.0)


def _token_texts(items: Sequence[dict[str, Any]]) -> list[str]:
    """Texts of tokens. One that ends within a character leaves it to the token that completes it."""
    if any(item.get("bytes") is None for item in items):
        return [item["token"] for item in items]
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(bytes([*item["bytes"]])) for item in items]


def words_of(data: bytes, *, without: Iterable[str] = ()) -> str:
    """What the body of an unsuccessful response says, in a line of 300 characters at most, `without` some secrets."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = data[:10_000].decode(errors="replace")
    while isinstance(said, dict):
        said = next((said[name] for name in ("error", "message", "detail") if said.get(name)), str(said))
    words = " ".join(str(said).split())
    for secret in filter(None, without):
        words = words.replace(secret, "***")
    return words[:300]
