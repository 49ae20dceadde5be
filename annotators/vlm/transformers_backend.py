"""Backend that runs a model of transformers in the worker's own process: Qwen2.5-VL, Qwen3-VL and their like."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby
from typing import TYPE_CHECKING

from annotators.vlm.backend import Refusal, Reply, Request, batches
from annotators.vlm.transformers_settings import TransformersSettings
from schemas.errors import ConfigError, MissingExtraError
from weights.torchvision_operators import declare_missing_operators

if TYPE_CHECKING:
    from annotators.vlm.transformers_model import Model

_SORTED = 8
"""Batches' worth of requests that are sorted by length together."""
_PACKAGES = ("transformers", "torchvision", "qwen_vl_utils", "llguidance")


class TransformersBackend:
    """Loads the model at once, so that a worker which cannot use it fails as it starts. Needs no network.

    Requests of like length are answered together, `batch` at a time. Where the GPU's memory does not hold as many, half
    of them are tried, from then on. Answers to one request may differ in the last digits of their probabilities with
    what it is batched with.

    Raises:
        MissingExtraError: the extra `vlm` is not installed.
        WeightsError: the folder is absent, or holds no whole vision-language model with a chat template.
        ConfigError: device or attention cannot be had here.

    """

    def __init__(self, settings: TransformersSettings) -> None:
        self._settings, self._batch = settings, settings.batch
        self._model: Model | None = _load(settings)

    @property
    def identity(self) -> Mapping[str, str]:
        """As the settings have it."""
        return self._settings.identity

    def ask(self, requests: Iterable[Request | None]) -> Iterator[Reply | Refusal]:
        """Answers to `requests`, each exactly once, batch by batch. Not to be called by two threads at once.

        Refusals are of what the model cannot take: questions longer than its context, pictures that are mere strips.

        Raises:
            ConfigError: the memory does not hold a single request, or a schema is none.

        """
        for some in batches(requests, most=_SORTED * self._settings.batch):
            for _, alike in groupby(sorted(some, key=_length), key=_has_pictures):
                yield from self._batchwise(deque(alike))

    def close(self) -> None:
        """Give back the memory. Who asks again loads the model anew."""
        self._model = None
        _free_memory()

    def _batchwise(self, waiting: deque[Request]) -> Iterator[Reply | Refusal]:
        while waiting:
            batch = [waiting.popleft() for _ in range(min(self._batch, len(waiting)))]
            answers = self._answers(batch)
            if answers is None:
                self._halve(batch)
                waiting.extendleft(reversed(batch))
            else:
                yield from answers

    def _answers(self, batch: Sequence[Request]) -> list[Reply | Refusal] | None:
        """One for each request; None where memory ran out."""
        import torch

        self._model = self._model or _load(self._settings)
        prepared = [self._model.prompt(request) for request in batch]
        refusals = [prompt for prompt in prepared if isinstance(prompt, Refusal)]
        prompts = [prompt for prompt in prepared if not isinstance(prompt, Refusal)]
        try:
            return [*refusals, *self._model.answers(prompts)]
        except torch.OutOfMemoryError:
            return None

    def _halve(self, batch: Sequence[Request]) -> None:
        _free_memory()  # only now: while the error was handled, it held the tensors
        if len(batch) == 1:
            raise ConfigError(
                f"the device's memory does not hold one request with {len(batch[0].pictures)} pictures",
                where=batch[0].key,
                remedy="Lower `max_pixels`, the pictures in a window or what else runs on the device",
            )
        self._batch = len(batch) // 2


def _load(settings: TransformersSettings) -> Model:
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(package, "vlm", purpose="A vision-language model in process")
    declare_missing_operators()
    from annotators.vlm.transformers_model import Model

    return Model(settings)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _has_pictures(request: Request) -> bool:
    return bool(request.pictures)


def _length(request: Request) -> tuple[bool, int, int]:
    return _has_pictures(request), request.max_tokens, sum(picture.image.size for picture in request.pictures)
