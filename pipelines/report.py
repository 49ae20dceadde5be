"""`report.html`: one self-contained page that shows why clips stay or go, beside the dataset that it describes.

It loads nothing, runs nothing, and holds no clock: equal datasets give equal bytes. Every string in it may come from
a manifest, a file name, a model or an exception, so the template escapes all of them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow.compute as pc
from markupsafe import Markup
from PIL import Image

from media.draw.timeline import category_colour
from pipelines import urls
from pipelines.chain import Chain
from pipelines.histogram import HEIGHT, WIDTH, Histogram, histogram, shown
from pipelines.report_facts import Facts, facts_of
from pipelines.tables import DECISIONS, open_table, read_rows
from schemas.annotation import ActionCaption, Annotation
from schemas.conditions import UInt8
from schemas.errors import DatasetError
from schemas.metrics import Bound
from training.shards import INDEX, Entry, read_index, read_members
from training.stored import StoredSample

REPORT = "report.html"

_SAMPLES = 6
_THUMBNAIL = (280, 180)
_QUALITY = 72
_TEMPLATE = Path(__file__).with_name("report_template.html")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of the words after them, and halves of surrogate pairs."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """Interactions of one category among the kept clips, with quantiles 5, 50 and 95 % of their seconds."""

    name: str
    colour: str
    count: int
    clips: int
    seconds: float
    quantiles: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Interactions:
    """All interactions of the kept clips. `lengths` counts their seconds."""

    categories: tuple[Category, ...]
    lengths: Histogram | None
    clips_without: int


@dataclass(frozen=True, kw_only=True)
class Segment:
    """An action on the timeline, in per cent of the clip."""

    left: float
    width: float
    colour: str


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A kept sample as it is stored: pictures are data URIs, `problem` says why there are none."""

    key: str
    caption: str
    actions: tuple[ActionCaption, ...] = ()
    segments: tuple[Segment, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def write_report(output: str, described: Mapping[str, Any], *, chain: Chain) -> bool:
    """Write `report.html` into the dataset at `output`, unless the one that is there says the same already.

    Args:
        output: folder that holds the shards, their index and `decisions.parquet`: path or fsspec URL.
        described: content of its `dataset.json`.
        chain: the stages and bounds that decided.

    Returns:
        Whether it was written.

    Raises:
        DatasetError: a table is missing or damaged. A sample that does not decode is noted on the page instead.

    """
    url = urls.join(output, REPORT)
    with open_table(urls.join(output, DECISIONS)) as decisions:
        facts = facts_of(decisions, chain)
    fingerprint = _fingerprint(facts, described)
    old = urls.read(url)
    if old is not None and f'content="{fingerprint}"'.encode() in old[:1000]:
        return False
    kept = described["clips"]["kept"]
    page = _template().render(
        fingerprint=fingerprint,
        described=described,
        facts=facts,
        interactions=_interactions(output) if kept else None,
        samples=_thumbnails(output) if kept else (),
        WIDTH=WIDTH,
        HEIGHT=HEIGHT,
    )
    urls.write_whole(url, page.encode())
    return True


def _fingerprint(facts: Facts, described: Mapping[str, Any]) -> str:
    """Hash of all that the page shows: samples and interactions follow from the `contents` of the description."""
    digest = hashlib.sha256(_TEMPLATE.read_bytes())
    digest.update(repr(facts).encode("utf-8", "replace"))
    digest.update(json.dumps(described, sort_keys=True).encode())
    return digest.hexdigest()


def _interactions(output: str) -> Interactions:
    seconds: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    clips: Counter[str] = Counter()
    without = 0
    with open_table(urls.join(output, INDEX)) as index:
        for row in read_rows(index, ["fps", "actions"]):
            clips.update({action["category"] for action in row["actions"]})
            without += not row["actions"]
            for action in row["actions"]:
                frames = action["end_frame"] + 1 - action["start_frame"]
                seconds[action["category"]].append(frames / row["fps"])
    categories = [
        Category(
            name=name,
            colour=_hex(category_colour(name)),
            count=len(lengths),
            clips=clips[name],
            seconds=sum(lengths),
            quantiles=tuple(float(value) for value in np.quantile(lengths, (0.05, 0.5, 0.95))),  # type: ignore[arg-type]
        )
        for name, lengths in seconds.items()
    ]
    return Interactions(
        categories=tuple(sorted(categories, key=lambda category: (-category.count, category.name))),
        lengths=histogram(np.concatenate([*seconds.values(), []]), limits=(0, None), unit="s"),
        clips_without=without,
    )


def _thumbnails(output: str) -> tuple[Thumbnail, ...]:
    """A few samples spread over the dataset; those with an interaction first in line."""
    index = read_index(output)
    with open_table(urls.join(output, INDEX)) as table:
        rows = table.read(columns=["key", "actions"], use_threads=False)
    eventful = rows.filter(pc.greater(pc.list_value_length(rows["actions"]), 0))["key"]
    is_eventful = pc.is_in(index.table["key"], value_set=eventful.combine_chunks()).to_numpy()
    places = np.flatnonzero(is_eventful)
    if len(places) < _SAMPLES:
        places = np.sort(np.concatenate([places, np.flatnonzero(~is_eventful)[:_SAMPLES]]))
    chosen = np.linspace(0, len(places) - 1, min(_SAMPLES, len(places))).round().astype(int)
    return tuple(_thumbnail(index[int(places[place])]) for place in chosen)


def _thumbnail(entry: Entry) -> Thumbnail:
    try:
        return _decoded(StoredSample(read_members(entry), str(entry)), entry.key)
    except DatasetError as error:  # one damaged sample must not cost the report; `vvt validate` deals with it
        return Thumbnail(key=entry.key, caption="", problem=error.what)


def _decoded(stored: StoredSample, key: str) -> Thumbnail:
    """The first and the middle frame of the first interaction, or of a clip that has none, and the garment."""
    frames = stored.meta().span.frames
    annotation: Annotation | None = stored.artifact("annotation") if "annotation.json" in stored.members else None
    actions = annotation.actions if annotation else ()
    first, last = (actions[0].start_frame, actions[0].end_frame) if actions else (0, frames - 1)
    shown_frames = sorted({first, (first + last) // 2})
    pictures = [
        (f"frame {frame}", _data_uri(image))
        for frame, image in zip(shown_frames, stored.images(shown_frames, total=frames), strict=True)
    ]
    if "garment.png" in stored.members:
        pictures.append(("garment", _data_uri(stored.artifact("garment"))))
    return Thumbnail(
        key=key,
        caption=annotation.global_caption if annotation else "",
        actions=actions,
        segments=tuple(
            Segment(
                left=round(100 * action.start_frame / frames, 2),
                width=round(100 * (action.end_frame + 1 - action.start_frame) / frames, 2),
                colour=_hex(category_colour(action.category)),
            )
            for action in actions
        ),
        pictures=tuple(pictures),
    )


def _data_uri(image: UInt8) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail(_THUMBNAIL)
    stream = io.BytesIO()
    picture.save(stream, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, finalize=_visible, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": shown, "bound": _bound, "percent": _percent, "duration": _duration}
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))


def _visible(value: Any) -> Any:
    """Words in which nothing is hidden: `_UNSEEN` characters by their number."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value)


def _duration(hours: float) -> str:
    for unit, length in (("h", 1), ("min", 60)):
        if hours * length >= 1:
            return f"{shown(hours * length)} {unit}"
    return f"{shown(hours * 3600)} s"


def _bound(bound: Bound) -> str:
    low, high = bound
    if low is None and high is None:
        return "none"
    if low is None or high is None:
        return f"≤ {high:g}" if low is None else f"≥ {low:g}"
    return f"{low:g} … {high:g}"


def _percent(part: float, whole: float) -> str:
    share = part / whole if whole else 0.0
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "< 0.1%" if share < 0.5 else "> 99.9%"
    return f"{share:.0%}" if share in (0, 1) or 0.1 <= share <= 0.99 else f"{share:.1%}"
