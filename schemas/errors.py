"""Typed errors. Every error that a user can cause says what was wrong, where, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class VvtError(Exception):
    """Base of every error raised on purpose.

    Args:
        what: what was wrong, in one sentence.
        where: file, row, field, key or URL that it was wrong in.
        allowed: what would have been right.
        remedy: what the user can do about it.

    """

    def __init__(self, what: str, *, where: str = "", allowed: str = "", remedy: str = "") -> None:
        self.what, self.where, self.allowed, self.remedy = what, where, allowed, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        parts += [f"Allowed: {self.allowed}"] if self.allowed else []
        parts += [self.remedy] if self.remedy else []
        if len(parts) == 1:
            return parts[0]
        return " ".join(part if part.endswith((".", "!", "?", "\n")) else f"{part}." for part in parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries in Ray, and keyword-only arguments do not survive the default pickling.
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(kind: type[VvtError], state: dict[str, object]) -> VvtError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    Exception.__init__(error, str(error))
    return error


class ConfigError(VvtError):
    """The config names something unknown, or values that cannot work together."""


class MediaError(VvtError):
    """A video cannot be used. `code` is one of `MEDIA_ERROR_CODES`, stable for counting."""

    def __init__(self, what: str, *, code: str, where: str = "", allowed: str = "", remedy: str = "") -> None:
        if code not in MEDIA_ERROR_CODES:
            raise ValueError(f"{code = } is not one of {sorted(MEDIA_ERROR_CODES)}")
        self.code = code
        super().__init__(what, where=where, allowed=allowed, remedy=remedy)


MEDIA_ERROR_CODES = {
    "missing": "there is no such file or address",
    "empty": "the file has no bytes",
    "not_media": "the bytes are no container of video, or of a kind that may not be opened (a playlist, a still image)",
    "no_video": "there is no video stream, e.g. audio only",
    "undecodable": "a video stream is there, but no frame of it decodes",
    "too_short": "fewer frames than a clip needs",
    "truncated": "the container announces more than the file holds, and nothing of it decodes",
    "unreadable": "the storage refuses or breaks off",
    "refused": "the config does not let a manifest lead there (`sources`)",
    "unsupported": "the chosen backend cannot read this",
    "too_large": "a picture has more pixels than the limits allow, or sides longer than an encoder takes",
    "too_long": "the recording lasts longer than the limits allow",
    "too_many_streams": "the container holds more streams than the limits allow",
    "stalled": "much was read, or for long, without a frame coming of it",
}


class WeightsError(VvtError):
    """A weights file is unknown, absent, or not the bytes that the registry names."""


class MissingExtraError(VvtError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, *, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            remedy=f"Install the extra: `pip install 'vvt-interact[{extra}]'`",
        )


class StageError(VvtError):
    """A stage was given or returned something that breaks its contract."""


class ArtifactError(VvtError):
    """An artifact has the wrong type, shape, dtype or range."""


class OutageError(VvtError):
    """What every clip needs is away for now: a full disk, a store that does not answer, a server that is down.

    Raised by a stage or a store, it blames no clip: the engine waits, tries again, and in the end stops, resumable.
    """


class LockedError(VvtError):
    """Another driver is at work in the output or the clip store."""


class DatasetError(VvtError):
    """A written dataset is incomplete, damaged, or of another schema version."""


@dataclass(frozen=True)
class Problem:
    """One bad place in an input table."""

    line: int
    field: str
    what: str

    def __str__(self) -> str:
        place = [f"line {self.line}"] if self.line else []  # 0: the file as a whole
        return ": ".join([*place, *([self.field] if self.field else []), self.what])


class ManifestError(VvtError):
    """One or more rows of a manifest are wrong; all of them are listed in `problems`."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = "\n".join(f"  {problem}" for problem in self.problems[:50])
        more = f"\n  … and {len(self.problems) - 50} more" if len(self.problems) > 50 else ""
        super().__init__(
            f"{len(self.problems)} problem(s) in the manifest:\n{shown}{more}\n",
            where=where,
            remedy="Mend or remove these rows; nothing was started.",
        )
