"""Captions as the tokens that Wan's cross-attention reads.

Shape legend: B samples, n tokens of a caption, L most tokens of a sample, D their width (4096 of Wan's UMT5-XXL).
"""

from __future__ import annotations

import html
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from schemas.errors import MissingExtraError, WeightsError
from training.model.inputs import Captions
from training.pretrained import load_part
from weights.torchvision_operators import declare_missing_operators

MAX_TOKENS = 512
"""Of one caption: Wan2.1 is trained on so many."""
GLOBAL = -1
"""What `Captions.segments` says of the global caption."""
_AT_ONCE = 8


class TextEncoder:
    """UMT5 as Wan uses it. What was encoded lately is remembered, above all the empty caption and repeated actions.

    Args:
        network: transformers' `UMT5EncoderModel`, in evaluation mode.
        tokenizer: its tokenizer.
        remembered: most tokens that are kept; at 4096 bfloat16 numbers each the default is 128 MiB.

    """

    def __init__(self, network: Any, tokenizer: Any, *, remembered: int = 16_384) -> None:
        self.network, self.tokenizer, self.remembered = network, tokenizer, remembered
        self._remembered: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def load(cls, folder: Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """The ones in `folder/text_encoder` and `folder/tokenizer`.

        Raises:
            WeightsError: they are not there, or damaged.
            MissingExtraError: transformers is not installed.

        """
        declare_missing_operators()
        try:
            from transformers import AutoTokenizer, UMT5EncoderModel
        except ImportError as error:
            raise MissingExtraError("transformers", "train", purpose="Wan's text encoder") from error
        where = folder / "tokenizer"
        try:
            tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True)
        except Exception as error:  # transformers raises whatever comes of damaged files
            raise WeightsError(
                f"the tokenizer cannot be loaded: {type(error).__name__}: {error}", where=str(where)
            ) from error
        return cls(load_part(UMT5EncoderModel, folder, "text_encoder", dtype=dtype, device=device), tokenizer)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Each of the texts as (n, D) of the network's dtype, its end token included, no padding.

        Texts are cleaned as Wan does it, and cut off at 512 tokens. The empty one is its end token alone.

        Raises:
            MissingExtraError: ftfy is not installed.

        """
        cleaned = [clean(text) for text in texts]
        known = {text: self._remembered[text] for text in cleaned if text in self._remembered}
        unknown = [text for text in dict.fromkeys(cleaned) if text not in known]
        for start in range(0, len(unknown), _AT_ONCE):
            some = unknown[start : start + _AT_ONCE]
            known.update(zip(some, self._encode(some), strict=True))
        for text in cleaned:
            self._remember(text, known[text])
        return [known[text] for text in cleaned]

    def captions(self, global_captions: Sequence[str], actions: Sequence[Sequence[tuple[int, str]]]) -> Captions:
        """The captions of B samples side by side: of each the global one, then its actions' in the order given.

        There is no padding but what the longest of the batch makes necessary, and `mask` is false on all of it. Wan
        itself was trained with captions filled up to 512 tokens with zeros, without a mask: as its text projection
        makes a constant of a zero token, every query also attends to as many constant keys as tokens are missing. That
        is the model's to reproduce, whatever the text encoder gives: `ModelSettings.text_length`.

        Args:
            global_captions: B texts.
            actions: of each sample (number of the segment, caption), see `training.segments.segments`.

        """
        samples = [[(GLOBAL, overall), *timed] for overall, timed in zip(global_captions, actions, strict=True)]
        tokens = iter(self.encode([text for sample in samples for _, text in sample]))
        return side_by_side([[(number, next(tokens)) for number, _ in sample] for sample in samples])

    def _encode(self, texts: list[str]) -> list[Tensor]:
        asked = self.tokenizer(texts, padding="longest", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        mask = asked.attention_mask.to(self.network.device)
        states = self.network(asked.input_ids.to(self.network.device), mask).last_hidden_state
        # Copies, as a view would keep the whole batch in memory.
        return [state[:length].clone() for state, length in zip(states, mask.sum(1).tolist(), strict=True)]

    def _remember(self, text: str, tokens: Tensor) -> None:
        self._remembered[text] = tokens
        self._remembered.move_to_end(text)
        while sum(map(len, self._remembered.values())) > self.remembered:
            self._remembered.popitem(last=False)


def side_by_side(samples: Sequence[Sequence[tuple[int, Tensor]]]) -> Captions:
    """Captions of a batch, of each sample the (number of the segment, (n, D) tokens) of its captions in order.

    They are on the tokens' device.
    """
    tokens = [torch.cat([text for _, text in sample]) for sample in samples]
    numbers = [
        torch.cat([torch.full((len(text),), number, device=text.device) for number, text in sample])
        for sample in samples
    ]
    seen = [torch.ones_like(each, dtype=torch.bool) for each in numbers]
    return Captions(
        tokens=pad_sequence(tokens, batch_first=True),
        mask=pad_sequence(seen, batch_first=True),
        segments=pad_sequence(numbers, batch_first=True, padding_value=GLOBAL),
    )


def clean(text: str) -> str:
    """`text` as Wan's own code prepares it: mended by ftfy, HTML entities resolved twice, white space made single.

    Raises:
        MissingExtraError: ftfy is not installed.

    """
    try:
        import ftfy
    except ImportError as error:
        raise MissingExtraError("ftfy", "train", purpose="Reading captions as Wan does") from error
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
