"""Answers generated token by token to a JSON schema, and how likely each token was.

Grammars are those of llguidance, which vLLM and SGLang offer too. Where the schema leaves no choice, its text is
written in the tokenizer's own tokens; where it leaves one, only tokens that lead on to a valid answer compete, and the
probabilities are those among them: where a boolean begins, p(true) + p(false) = 1.

Shapes: B requests in a batch, V words of the model's output, K likeliest tokens kept.
"""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from transformers import LogitsProcessor, PreTrainedTokenizerFast

from annotators.vlm.backend import Token
from schemas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Step:
    """One token as it was chosen.

    Attributes:
        chosen: its id.
        logprob: natural logarithm of its probability.
        others: ids and logprobs of the likeliest at its place, the likeliest first.

    """

    chosen: int
    logprob: float
    others: tuple[tuple[int, float], ...]


class Vocabulary:
    """The words of a model, and grammars over them.

    Args:
        tokenizer: of the model.
        size: V.
        ends: ids that end an answer.

    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, size: int, ends: Sequence[int]) -> None:
        self._words: LLTokenizer = from_tokenizer(tokenizer, n_vocab=size, eos_token=list(ends))
        self._ends = frozenset(ends)

    def matcher(self, schema: Mapping[str, Any]) -> LLMatcher:
        """What lets through only answers to `schema`; keywords of it that the library does not know are passed over.

        Raises:
            ConfigError: it is no schema.

        """
        grammar = LLMatcher.grammar_from_json_schema(
            dict(schema), defaults={"whitespace_flexible": False, "lenient": True}
        )
        matcher = LLMatcher(self._words, grammar, log_level=0)
        if matcher.is_error():
            raise ConfigError(
                f"no answer can be held to this JSON schema: {matcher.get_error().splitlines()[0]}",
                where=json.dumps(dict(schema))[:300],
            )
        return matcher

    def tokens(self, answer: Sequence[Step]) -> tuple[Token, ...]:
        """The tokens of an answer; one that ends within a character leaves it to the one that completes it."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        spelled = [step for step in answer if not self._words.is_special_token(step.chosen)]
        tokens = []
        for place, step in enumerate(spelled, 1):
            text = decoder.decode(self._words.decode_bytes([step.chosen]), final=place == len(spelled))
            tokens.append(Token(text=text, logprob=step.logprob, others=self._others(step) | {text: step.logprob}))
        return tuple(tokens)

    def ends(self, token: int) -> bool:
        """Whether an answer ends with `token`."""
        return token in self._ends

    def _others(self, step: Step) -> dict[str, float]:
        """Text → logprob, the likeliest last, which therefore stays where two are written alike."""
        return {self._words.decode_str([token]): logprob for token, logprob in reversed(step.others)}


class Constraint(LogitsProcessor):
    """Holds each answer of a batch to its matcher, and keeps the probabilities that the tokens were chosen by.

    Args:
        matchers: B; None leaves an answer free.
        top: K.

    """

    def __init__(self, matchers: Sequence[LLMatcher | None], *, top: int) -> None:
        self._matchers, self._top = matchers, top
        self._logprobs: torch.Tensor | None = None
        self._kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, V) scores, -inf for what may not come next, of (B, V) `scores` after the (B, L) tokens so far."""
        if self._logprobs is not None:
            self._keep(input_ids[:, -1])
            self._advance(input_ids[:, -1].tolist())
        scores = scores.float()
        if any(self._matchers):
            scores = scores.masked_fill(~self._allowed(scores.shape[1]).to(scores.device), -torch.inf)
        self._logprobs = scores.log_softmax(-1)
        return scores

    def steps(self, answers: torch.Tensor) -> list[list[Step]]:
        """What led to each of the (B, N) `answers`, N tokens each, padding included."""
        self._keep(answers[:, -1])
        logprobs, top, top_ids = (torch.stack(part, dim=1).tolist() for part in zip(*self._kept, strict=True))
        return [
            [_step(*place) for place in zip(*row, strict=True)]
            for row in zip(answers.tolist(), logprobs, top_ids, top, strict=True)
        ]

    def _keep(self, chosen: torch.Tensor) -> None:
        assert self._logprobs is not None
        values, ids = self._logprobs.topk(min(self._top, self._logprobs.shape[1]))
        self._kept.append((self._logprobs.gather(1, chosen[:, None])[:, 0], values, ids))

    def _advance(self, chosen: Sequence[int]) -> None:
        for matcher, token in zip(self._matchers, chosen, strict=True):
            if matcher and not matcher.is_stopped():
                matcher.consume_token(token)

    def _allowed(self, size: int) -> torch.Tensor:
        """(B, V) bool."""
        allowed = torch.ones(len(self._matchers), size, dtype=torch.bool)
        for row, matcher in zip(allowed, self._matchers, strict=True):
            if matcher and (forced := matcher.compute_ff_tokens()):
                row.zero_()
                row[forced[0]] = True
            elif matcher:
                row.copy_(torch.from_numpy(np.frombuffer(matcher.compute_logit_bias(), np.uint8) > 0))
        return allowed


def _step(chosen: int, logprob: float, ids: Sequence[int], logprobs: Sequence[float]) -> Step:
    others = tuple(pair for pair in zip(ids, logprobs, strict=True) if pair[1] > -math.inf)
    return Step(chosen=chosen, logprob=logprob, others=others)
