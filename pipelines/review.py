"""`vvt review`: what somebody should look at among the labels of a built dataset, the worst first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from annotators.agreement import Agreement, Finding, for_review
from pipelines import urls
from pipelines.build import stored_config
from pipelines.chain import make_chain
from pipelines.configure import merge_config
from pipelines.store import ClipStore
from pipelines.tables import DECISIONS, open_table, read_rows
from schemas.errors import DatasetError

REVIEW = "review.csv"


@dataclass(frozen=True)
class Row:
    """A line of `review.csv`: a stretch of a clip, and why to look at it.

    `verdict` is that of the clip; frames and `seconds`, where it begins, are of the clip, `video_seconds` of the video.
    """

    key: str
    verdict: str
    start_frame: int
    end_frame: int
    seconds: float
    video_seconds: float
    category: str
    caption: str
    score: float | None
    why: str


def review(out: str, *, below: float = 0.5) -> list[Row]:
    """Doubts of all labelled clips in the dataset at `out`, then findings that score at most `below`, lowest first.

    Raises:
        DatasetError: there is no dataset, or its clip store is gone.

    """
    config = merge_config(stored_config(out), (), where=out)
    chain, store = make_chain(config), ClipStore(config.work_url)
    agreement = next((stage for stage in chain.stages if isinstance(stage, Agreement)), None)
    rows = [row for row in _rows(out, store, agreement) if row.score is None or row.score <= below]
    return sorted(rows, key=lambda row: (row.score is not None, row.score or 0.0, row.key, row.start_frame))


def write_review(out: str, rows: list[Row]) -> str:
    """Write `rows` to `review.csv` in the dataset; its address."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)])
    writer.writeheader()
    writer.writerows({name: _no_formula(value) for name, value in asdict(row).items()} for row in rows)
    url = urls.join(out, REVIEW)
    urls.write_whole(url, text.getvalue().encode())
    return url


def _no_formula(value: Any) -> Any:
    """Captions are a model's words about a stranger's video: no spreadsheet shall run them."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _rows(out: str, store: ClipStore, agreement: Agreement | None) -> Iterator[Row]:
    with open_table(urls.join(out, DECISIONS)) as table:
        decided = [row for row in read_rows(table, ("key", "verdict")) if row["verdict"] in ("kept", "dropped")]
    for row in decided:
        try:
            clip = store.get(row["key"])
        except DatasetError:
            continue  # `vvt build` makes it anew
        if clip is None or "annotation" not in clip.artifacts:
            continue
        for finding in for_review(clip, agreement):
            yield _row(finding, row["verdict"], clip.key, fps=float(clip.span.fps), begin=clip.span.start_seconds)


def _row(finding: Finding, verdict: str, key: str, *, fps: float, begin: float) -> Row:
    seconds = round(finding.start_frame / fps, 3)
    return Row(key=key, verdict=verdict, seconds=seconds, video_seconds=round(begin + seconds, 3), **asdict(finding))
