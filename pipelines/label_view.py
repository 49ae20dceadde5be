"""What `vvt label` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from annotators.vlm.cost import Cost
from annotators.vlm.openai_settings import OpenAISettings
from annotators.vlm.stage import VlmLabels
from pipelines.label_estimate import Estimate, Probe

_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What turns requests and tokens into hours and money; None where it is not known.

    Attributes:
        requests_per_second: of all workers together.
        price_in, price_out: of a million tokens of prompts, of answers.

    """

    requests_per_second: float | None = None
    price_in: float | None = None
    price_out: float | None = None


def print_estimate(found: Estimate, stage: VlmLabels, *, rates: Rates, probe: Probe | None, console: Console) -> None:
    """Print what is to be asked, what it costs, and how each number is known."""
    backend = stage.backend
    where = f"at {backend.base_url}" if isinstance(backend, OpenAISettings) else "in the workers' own processes"
    console.print(f"Labels by {backend.model} {where}, stage {stage.name!r}.", soft_wrap=True)
    for line in _what_waits(found):
        console.print(line, soft_wrap=True)
    if found.total.requests or any(kind.known.requests for kind in found.kinds.values()):
        console.print()
        console.print(_table(found))
        console.print()
        for line in _how_known(found):
            console.print(f"- {line}", soft_wrap=True)
    if probe:
        console.print()
        console.print(_probed(probe, kept=bool(stage.cache)), soft_wrap=True)
    for line in _time_and_money(found.total, rates, probe):
        console.print(line, soft_wrap=True)
    console.print("Nothing was asked. `vvt build` labels." if not probe else "`vvt build` labels.")


def _what_waits(found: Estimate) -> Iterator[str]:
    clips, certain = len(found.waiting), sum(clip.next for clip in found.waiting)
    if clips:
        line = f"{clips:,} stored clip(s), {_hours(found.seconds)}, are to be labelled."
        if certain < clips:
            line += f" Other stages run before on {clips - certain:,} of them, and may still drop some."
        yield line
    else:
        yield "No stored clip waits for labels."
    unread = found.unread
    if unread.recordings:
        line = f"{unread.recordings:,} recording(s) are still to be read, {_hours(unread.seconds)}"
        line += f" and {unread.unknown:,} of unknown length, which are not counted." if unread.unknown else "."
        yield line
    if unread.recordings and not found.sampled:
        yield (
            "What their clips would be asked is not known before there are some. Build a few rows, or all with contact "
            "labels (without stages.labels in the config): what runs before the labels is kept."
        )
    if found.damaged:
        yield f"{found.damaged:,} clip(s) of the sample could not be looked at."


def _table(found: Estimate) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("questions", no_wrap=True)
    for name in ("requests", "pictures", "tokens in", "tokens out", "cached"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("known", no_wrap=True)
    for kind, cost in found.kinds.items():
        table.add_row(kind, *_numbers(cost.asked), _number(cost.known.requests), _origin(kind, found))
    table.add_row(f"again, {found.repair_share:.0%}", *_numbers(found.repairs), "", "assumed")
    if found.later.requests:
        table.add_row("of unread", *_numbers(found.later), "", "extrapolated")
    table.add_section()
    cached = sum(cost.known.requests for cost in found.kinds.values())
    table.add_row("all", *_numbers(found.total), _number(cached), "", style="bold")
    return table


def _numbers(cost: Cost) -> tuple[str, ...]:
    return tuple(map(_number, (cost.requests, cost.pictures, cost.prompt_tokens, cost.answer_tokens)))


def _origin(kind: str, found: Estimate) -> str:
    if kind in ("boundary", "category"):
        return "estimated"
    return "exact" if found.exact else "scaled up"


def _how_known(found: Estimate) -> Iterator[str]:
    if not found.exact and found.sampled:
        yield (
            f"Requests are counted on {found.sampled:,} clips drawn from all, and scaled up: captions by clips, "
            "garments by pairs, others by time."
        )
    repeats = sum(kind.repeats.requests for kind in found.kinds.values())
    if repeats:
        yield f"{_number(repeats)} more have the content of another, and are asked with it."
    if {"boundary", "category"} & found.kinds.keys() or found.sampled:
        yield _stand_in(found)
    words = (
        "by the model's tokenizer" if found.rule.exact_text else "estimated, within a tenth of Qwen's for these prompts"
    )
    yield f"Tokens: pictures {found.rule.origin}, {found.rule.side} x {found.rule.side} px each; words {words}."
    cost = found.total
    yield f"{_number(cost.picture_tokens)} of the {_number(cost.prompt_tokens)} tokens in are of pictures."
    yield (
        "Answers are expected as short as their form allows, with captions of some 20 words; their limit is "
        f"{_number(cost.longest_answer_tokens)} tokens."
    )
    if found.later.requests:
        yield (
            f"Unread recordings: {found.unread.share:.0%} of their time is taken to reach the labels, as of "
            "those read so far, and to cost as much as the clips counted here without a cache."
        )


def _stand_in(found: Estimate) -> str:
    line = "Boundaries and categories are asked once frames are labelled. Till then "
    by_contact = found.sampled - found.without_contact
    if not found.without_contact:
        return line + "contact evidence stands in for the labels."
    if not by_contact:
        return line + "one interaction a clip, of a third of its length, is assumed: there is no contact evidence."
    return line + (
        f"contact evidence stands in for the labels; {found.without_contact:,} clip(s) of the sample have none, and "
        "one interaction of a third of the clip is assumed."
    )


def _probed(probe: Probe, *, kept: bool) -> str:
    line = (
        f"Asked: {probe.requests:,} request(s) in {probe.seconds:.1f} s, {probe.second_tries:,} of them second tries; "
        f"{probe.refused:,} got no answer, {probe.unusable:,} question(s) have none that can be used."
    )
    if probe.prompt_tokens:
        expected = probe.expected
        line += (
            f" The backend counts {probe.prompt_tokens:,} + {probe.completion_tokens:,} tokens; estimated were "
            f"{_number(expected.prompt_tokens)} + {_number(expected.answer_tokens)}, without second tries."
        )
    if kept:
        return f"{line} The answers are in the cache."
    return f"{line} The answers are lost, and will be asked for again: the stage has no `cache`."


def _time_and_money(cost: Cost, rates: Rates, probe: Probe | None) -> Iterator[str]:
    rate = rates.requests_per_second
    if rate:
        yield f"At {rate:g} requests a second: {_hours(cost.requests / rate)}."
    if probe:
        measured = probe.requests_per_second
        yield f"At the {measured:.3g} requests a second measured, with one worker: {_hours(cost.requests / measured)}."
    if not rate and not probe and cost.requests:
        yield "Hours: give --requests-per-second, or measure with --probe 200, which really asks as many."
    if rates.price_in is not None or rates.price_out is not None:
        prompts, answers = (rates.price_in or 0) / 1e6, (rates.price_out or 0) / 1e6
        expected = cost.prompt_tokens * prompts + cost.answer_tokens * answers
        most = cost.prompt_tokens * prompts + cost.longest_answer_tokens * answers
        yield f"Price: {expected:,.2f} expected, {most:,.2f} if all answers were as long as they may be."


def _number(value: float) -> str:
    return f"{round(value):,}"


def _hours(seconds: float) -> str:
    return f"{seconds / _HOUR:,.1f} h" if seconds >= _HOUR else f"{seconds / 60:.1f} min"
