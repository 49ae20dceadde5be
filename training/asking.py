"""Asking a judge: once more where an answer cannot be used, and never what was answered before."""

from __future__ import annotations

import hashlib
import json
from collections import UserDict
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

from annotators.vlm.answers import JudgeAnswer, read_judge
from annotators.vlm.backend import Backend, Refusal, Reply, Request
from annotators.vlm.prompts import Language
from annotators.vlm.questions import repair_request
from schemas.errors import ConfigError


def ask(
    backend: Backend, requests: Sequence[Request], *, language: Language, cache: MutableMapping[str, str]
) -> dict[str, JudgeAnswer | str]:
    """Key of each request → its answer, or in words why there is none. Usable answers go into `cache` as they come."""
    places = {request.key: content_key(backend.identity, request) for request in requests}
    answers: dict[str, JudgeAnswer | str] = {}
    for request in requests:
        known = read_judge(request, Reply(key=request.key, text=cache.get(places[request.key], "")))
        if isinstance(known, JudgeAnswer):
            answers[request.key] = known
    asked = {request.key: (request.key, request) for request in requests if request.key not in answers}
    while asked:  # twice at most: a repair is not repaired
        repairs: dict[str, tuple[str, Request]] = {}
        for reply in backend.ask([request for _, request in asked.values()]):
            key, request = asked[reply.key]
            if isinstance(reply, Refusal):
                answers[key] = reply.why
                continue
            said = read_judge(request, reply)
            if isinstance(said, JudgeAnswer):
                answers[key] = said
                cache[places[key]] = reply.text
                continue
            answers[key] = f"{said.kind}: {said.what}"
            if reply.key == key:
                repair = repair_request(request, reply, said, language=language)
                repairs[repair.key] = key, repair
        asked = repairs
    return answers


def content_key(identity: Mapping[str, str], request: Request) -> str:
    """Hash, 32 hex digits, of all that an answer depends on: the model, the words, the pictures, the form.

    Not of the request's name: the same question about the same pictures is answered once, whatever a file is called.
    """
    pictures = [(picture.digest, round(picture.seconds, 3)) for picture in request.pictures]
    asked = [dict(identity), request.system, request.text, pictures, request.schema, request.max_tokens]
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


class AnswerFile(UserDict[str, str]):
    """Answers in a file of JSON lines: read at once, each new one appended as it comes.

    A line that was cut off, as a killed run leaves it, is passed over; its question is asked anew.

    Raises:
        ConfigError: the file cannot be read or written.

    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            lines = file.read_text("utf-8", errors="replace").split("\n")
            if lines[-1]:
                self._append("\n")
        except OSError as error:
            raise ConfigError(f"the answers cannot be kept there: {error}", where=str(file)) from error
        for line in lines:
            try:
                place, text = json.loads(line)
            except (ValueError, TypeError):
                continue
            if isinstance(place, str) and isinstance(text, str):
                self.data[place] = text

    def __setitem__(self, place: str, text: str) -> None:
        self._append(json.dumps([place, text]) + "\n")
        self.data[place] = text

    def _append(self, text: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(text)
