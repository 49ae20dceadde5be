"""Read settings from a YAML file, dotted overrides (`optimiser.lr=1e-4`) on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from schemas.errors import ConfigError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(
    kind: type[Settings],
    file: str | Path | None,
    overrides: Sequence[str] = (),
    *,
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings of the class `kind` from the YAML `file`, if there is one, with `overrides`, over `defaults`.

    Raises:
        ConfigError: no such file, no YAML, no override, or a field that is unknown, missing or wrong: names all of
            these, and what is allowed.

    """
    where = "command line" if file is None else str(file)
    for override in overrides:
        if not override.partition("=")[1] or override.startswith("="):
            raise ConfigError(f"{override!r} is no override", where="command line", allowed="dotted.name=value")
    try:
        loaded = OmegaConf.create("" if file is None else Path(file).read_text("utf-8"))
        if not isinstance(loaded, DictConfig):
            raise ConfigError("this is a list", where=where, allowed="a mapping of names to values")
        merged = OmegaConf.merge(defaults or {}, loaded, OmegaConf.from_dotlist(list(overrides)))
        values: Any = OmegaConf.to_container(merged, resolve=True)
    except OSError as error:
        raise ConfigError(f"the config file cannot be read: {error}", where=where) from error
    except (YAMLError, ValueError, RecursionError, OmegaConfBaseException) as error:
        raise ConfigError(f"this is no YAML, or its values do not fit together: {error}", where=where) from error
    try:
        # A section that YAML leaves empty (`model:` and nothing below) is null there, and means the defaults.
        return kind.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_words(kind, detail) for detail in error.errors(include_url=False)), where=where
        ) from error


def _words(kind: type[BaseModel], detail: Any) -> str:
    *path, last = detail["loc"] or ("config",)
    name = ".".join(map(str, (*path, last)))
    if detail["type"] == "missing":
        return f"{name} is missing"
    if detail["type"] != "extra_forbidden":
        return f"{name}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r:.80})"
    known = list(_section(kind, path).model_fields)
    near = get_close_matches(str(last), known, n=1)
    return f"{name} is unknown, " + (f"did you mean {near[0]}?" if near else f"allowed: {', '.join(known)}")


def _section(kind: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The class of the section that `path` leads to."""
    for name in path:
        annotation: Any = kind.model_fields[str(name)].annotation
        kind = next(each for each in (annotation, *get_args(annotation)) if _is_section(each))
    return kind


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
