"""How a request is laid out as chat messages: the same words to every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from annotators.vlm.backend import Picture, Request

Part = dict[str, Any]


def chat_messages(request: Request, picture_part: Callable[[Picture], Part]) -> list[dict[str, Any]]:
    """System message, if there is one; then each picture after its number and time, and the question after them.

    Args:
        request: what is asked.
        picture_part: the part of a message that holds a picture, as the backend wants it.

    """
    content: list[Part] = []
    for number, picture in enumerate(request.pictures, 1):
        content += [_words(f"Frame {number} at {picture.seconds:.3f} s:"), picture_part(picture)]
    content.append(_words(request.text))
    system = [{"role": "system", "content": [_words(request.system)]}] if request.system else []
    return [*system, {"role": "user", "content": content}]


def _words(text: str) -> Part:
    return {"type": "text", "text": text}
