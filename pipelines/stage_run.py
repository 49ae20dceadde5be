"""One call of a stage on one clip or several: what it may do to them is checked, and what goes wrong becomes a row."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Sequence
from dataclasses import replace

from schemas import artifacts
from schemas.clip import Clip, Failure
from schemas.errors import StageError, VvtError
from schemas.record import Artifacts, as_artifacts
from schemas.stage import Filter, Stage


def process_checked(stage: Stage, clips: Sequence[Clip], *, hidden: Collection[str] = ()) -> None:
    """Run `stage` on `clips`; the artifacts called `hidden` are not shown to it.

    It works on copies of the records, so that clips whose stage fails are as they were before.

    Raises:
        Exception: whatever the stage raises, or `StageError` for what it may not do; no clip has changed.

    """
    shown = [_shown(stage, clip, hidden) for clip in clips]
    tried = [
        replace(clip, artifacts=before.parted(())[0], metrics=dict(clip.metrics))
        for clip, (before, _) in zip(clips, shown, strict=True)
    ]
    stage.process_batch(list(tried))
    made = [_checked(stage, clip, before, of) for clip, (before, _), of in zip(clips, shown, tried, strict=True)]
    for clip, (_, aside), of, after in zip(clips, shown, tried, made, strict=True):
        clip.artifacts, clip.metrics, clip.signature = after.joined(aside), of.metrics, of.signature


def _shown(stage: Stage, clip: Clip, hidden: Collection[str]) -> tuple[Artifacts, Artifacts]:
    missing = [need for need in stage.needs if need not in clip.artifacts]
    if missing:
        raise StageError(
            f"needs {', '.join(missing)}, which nobody gave for this clip", where=f"{stage.name}, {clip.key}"
        )
    return as_artifacts(clip.artifacts).parted(hidden)


def _checked(stage: Stage, clip: Clip, before: Artifacts, tried: Clip) -> Artifacts:
    """The artifacts of `clip` as `stage` left them in `tried`, if that is right."""
    where = f"{stage.name}, {clip.key}"
    if tried.key != clip.key:
        raise StageError(f"returned the clip under another key, {tried.key!r}", where=where)
    after = as_artifacts(tried.artifacts)
    if undeclared := sorted(after.changed_since(before) - set(stage.gives)):
        raise StageError(
            f"changed {', '.join(undeclared)}, which {type(stage).__name__}.gives does not name", where=where
        )
    measured = {name for name, value in tried.metrics.items() if clip.metrics.get(name) != value}
    if unknown := sorted(measured - set(stage.metrics if isinstance(stage, Filter) else ())):
        raise StageError(f"set {', '.join(unknown)}: only a Filter measures, what its `metrics` name", where=where)
    for name in stage.gives:
        if name in after:
            artifacts.check(name, after[name], tried)
    return after


def failure_of(stage: str, error: BaseException, *, code: str = "error") -> Failure:
    """`error` as a row of the decisions can hold it."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - an error of anybody's code, which may not even be able to say what it is
        words = "<its message cannot be read>"
    cause = words if isinstance(error, VvtError) else f"{type(error).__name__}: {words}"
    trace = "".join(traceback.format_exception(error))
    code = "memory" if isinstance(error, MemoryError) else code
    return Failure(stage=stage, cause=_storable(cause, 2_000), traceback=_storable(trace, 20_000), code=code)


def _storable(text: str, longest: int) -> str:
    """`text` without what UTF-8 cannot hold, and with its middle left out where it is very long."""
    text = text.encode("utf-8", "backslashreplace").decode()
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]} … {text[-half:]}"
