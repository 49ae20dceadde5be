"""Stage and Filter: what every step of the chain is made of.

A stage is a pydantic model: its fields are its configuration. A filter is a stage that measures; its bounds, in
the config, decide. Measuring never decides, so a dataset can be decided anew without being measured anew.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.clip import Clip, Drop
from schemas.errors import StageError
from schemas.metrics import Bound, Metric, outside


@dataclass(frozen=True)
class IsModelFile:
    """Marks a field as `ModelFile` does."""


ModelFile = Annotated[str, IsModelFile()]
"""Field that says which weights a stage loads: a name in the registry, or the path of a file or folder of the user's.

`weights.path(field)` gives the verified file. Its content, not its path, is part of the fingerprint; empty is none."""


class Resources(BaseModel):
    """What one worker of a stage holds, in Ray's units. Stages with equal resources share workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: float = Field(default=1.0, ge=0, description="CPU cores.")
    gpus: float = Field(default=0.0, ge=0, description="GPUs; a fraction shares one.")
    memory_mb: int = Field(default=0, ge=0, description="Memory that Ray reserves, in MB; 0 reserves none.")
    custom: dict[str, float] = Field(default_factory=dict, description="Custom Ray resources.")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class Stage(BaseModel):
    """One step of the chain. Subclass it, declare fields, `needs` and `gives`, and write `process`.

    Class variables:
        needs: artifacts that must be there before `process` runs.
        uses: artifacts that it takes where a stage before it gives them, and does without where none does.
        gives: artifacts that `process` fills in.
        version: raise it when the code changes what comes out, so that stored clips are computed again.
        weights: names in the weights registry that the stage loads; their sha256 is part of the fingerprint. Weights
            that the config may choose are fields of type `ModelFile` instead.
        light: costs next to nothing and looks at no frames. Unless the config gives it resources, such a stage runs in
            the worker of the stage before it, so that a clip does not leave a GPU's worker for the sake of a few sums.

    State made in `setup` (models) belongs in pydantic private attributes: `_model: Any = None`.
    """

    model_config = ConfigDict(extra="forbid", validate_default=True)

    needs: ClassVar[tuple[str, ...]] = ("video",)
    uses: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    weights: ClassVar[tuple[str, ...]] = ()
    light: ClassVar[bool] = False

    name: str = Field(default="", description="Name of the stage in the chain; the config's key.")
    resources: Resources = Field(default_factory=Resources, description="What one worker of this stage holds.")
    time_limit: float = Field(
        default=600.0,
        gt=0,
        description="Seconds that one clip may take. Beyond, its worker is ended, and the clip fails.",
    )

    batch_clips: int = Field(
        default=1,
        ge=1,
        description="Most clips that the stage is given at once. More of them fill a GPU better where clips are short; "
        "should a worker die, all of them are tried again, alone.",
    )

    @model_validator(mode="after")
    def _named(self) -> Stage:
        self.name = self.name or _snake_case(type(self).__name__)
        return self

    def setup(self) -> None:
        """Load weights and the like. Called once in each worker, before the first `process`."""

    def process(self, clip: Clip) -> None:
        """Fill in the artifacts that `gives` names. Raise to fail this clip; no other clip notices."""
        raise StageError(f"{type(self).__name__} defines no process()", where=self.name)

    def process_batch(self, clips: Sequence[Clip]) -> None:
        """Like `process`, for several clips at once. Override where a model gains from it."""
        for clip in clips:
            self.process(clip)

    @property
    def model_files(self) -> tuple[str, ...]:
        """Names and paths of all weights that the stage loads: `weights`, and what its `ModelFile` fields say."""
        return (*type(self).weights, *filter(None, self._chosen_files().values()))

    def _chosen_files(self) -> dict[str, str]:
        fields = type(self).model_fields.items()
        return {name: getattr(self, name) for name, field in fields if IsModelFile() in field.metadata}

    def identity(self, weights_sha256: Mapping[str, str] | None = None) -> dict[str, Any]:
        """All that this stage's output depends on: class, version, fields, weights.

        Bounds, name, resources, batches and the time limit are left out: they change no measured value. Code of a
        class from outside this project is named too, since its author may not think of `version`.
        """
        kind = type(self)
        sha256, chosen = weights_sha256 or {}, self._chosen_files()
        left_out = {"name", "resources", "time_limit", "batch_clips", "bounds", *chosen}
        identity: dict[str, Any] = {
            "class": f"{kind.__module__}:{kind.__qualname__}",
            "version": kind.version,
            "fields": self.model_dump(mode="json", exclude=left_out),
            "weights": {name: sha256.get(name, "") for name in kind.weights}
            | {field: sha256.get(file, "") for field, file in chosen.items()},
        }
        if kind.__module__.split(".")[0] not in _OUR_PACKAGES:
            identity["code"] = _source_of(kind)
        return identity

    def own_fingerprint(self, weights_sha256: Mapping[str, str] | None = None) -> str:
        """Hash of `identity`, 16 hex digits."""
        return hashlib.sha256(json.dumps(self.identity(weights_sha256), sort_keys=True).encode()).hexdigest()[:16]


class Filter(Stage):
    """A stage in two halves: `measure` returns numbers, `bounds` (from the config) decide.

    `metrics` describes each number that `measure` may return; a bound for a metric that is not there is an error.
    A metric that `measure` leaves out (nothing to measure) is not judged.
    """

    metrics: ClassVar[dict[str, Metric]] = {}

    bounds: dict[str, Bound] = Field(
        default_factory=dict,
        description="Metric → [lowest, highest] that stays, inclusive; null leaves a side open.",
    )

    @field_validator("bounds", mode="before")
    @classmethod
    def _bounds_are_known(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        unknown = sorted(set(value) - set(cls.metrics))
        if unknown:
            raise ValueError(
                f"no metric {', '.join(unknown)} in {cls.__name__}; it measures {', '.join(sorted(cls.metrics))}"
            )
        defaults = {name: metric.default for name, metric in cls.metrics.items()}
        return {
            **defaults,
            **{name: (None, None) if bound is None else bound for name, bound in value.items()},
        }

    @field_validator("bounds")
    @classmethod
    def _bounds_are_ordered(cls, value: dict[str, Bound]) -> dict[str, Bound]:
        for name, (low, high) in value.items():
            if math.isnan(low or 0) or math.isnan(high or 0):
                raise ValueError(f"{name}: a bound is no number; null leaves a side open")
            if low is not None and high is not None and low > high:
                raise ValueError(f"{name}: lowest {low:g} is above highest {high:g}")
        return value

    def measure(self, clip: Clip) -> dict[str, float]:
        """Numbers on this clip, by the names in `metrics`."""
        raise StageError(f"{type(self).__name__} defines no measure()", where=self.name)

    def process(self, clip: Clip) -> None:
        """Store what `measure` returned. The engine decides, by `decide`."""
        measured = self.measure(clip)
        if not isinstance(measured, Mapping):
            raise StageError(
                f"measure() returned {type(measured).__name__}, not a dict of numbers", where=f"{self.name}, {clip.key}"
            )
        unknown = sorted(map(str, set(measured) - set(self.metrics)))
        if unknown:
            raise StageError(
                f"measure() returned {', '.join(unknown)}, which {type(self).__name__}.metrics does not describe",
                where=self.name,
                allowed=", ".join(sorted(self.metrics)),
            )
        numbers = {}
        for name, value in measured.items():
            try:
                finite = math.isfinite(value)  # refuses text, which float() would take
                numbers[name] = float(value)
            except (TypeError, ValueError, OverflowError) as error:
                raise StageError(
                    f"measure() returned {value!r:.80} for {name}, which is no number", where=f"{self.name}, {clip.key}"
                ) from error
            if not finite:
                raise StageError(
                    f"measure() returned {value} for {name}, which is not finite", where=f"{self.name}, {clip.key}"
                )
        clip.metrics.update(numbers)

    def decide(self, metrics: Mapping[str, float]) -> Drop | None:
        """The first metric that breaks its bound, in the order of `metrics`; None if the clip stays."""
        for name, metric in type(self).metrics.items():
            bound = self.bounds.get(name, metric.default)
            if name in metrics and outside(metrics[name], bound):
                return Drop(
                    stage=self.name,
                    metric=name,
                    value=metrics[name],
                    bound=bound,
                    words=_words(name, metrics[name], bound, metric),
                )
        return None


_OUR_PACKAGES = {
    "annotators",
    "curation",
    "media",
    "pipelines",
    "preprocess",
    "schemas",
    "training",
    "weights",
}


def _words(name: str, value: float, bound: Bound, metric: Metric) -> str:
    low, high = bound
    unit = f" {metric.unit}" if metric.unit not in ("", "share", "count") else ""
    side = f"below {low:g}" if low is not None and not value >= low else f"above {high:g}"
    return f"{name} {value:.4g}{unit} is {side}{unit}: {metric.meaning}"


def _snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() and i else letter.lower() for i, letter in enumerate(name))


def _source_of(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # defined in a console: nothing to hash
        return ""
