"""Read a build's config: a YAML file, dotted overrides (`stages.blur.bounds.blur=[null,0.5]`) on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from yaml import YAMLError

from pipelines import urls
from schemas.config import BuildConfig
from schemas.errors import ConfigError


def load_config(url: str, overrides: Sequence[str] = ()) -> BuildConfig:
    """Config of the YAML file at `url`, with `overrides`.

    Raises:
        ConfigError: no such file, no YAML, or a field that is unknown or wrong.

    """
    fs, path = urls.filesystem(url)
    try:
        text = fs.cat_file(path).decode()
        loaded = OmegaConf.create(text)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError("there is no such config file", where=url) from error
    except (YAMLError, ValueError, RecursionError, OmegaConfBaseException) as error:
        raise ConfigError(f"this is no YAML: {error}", where=url) from error
    except OSError as error:
        raise ConfigError(f"the config file cannot be read: {error}", where=url) from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError("this is a list", where=url, allowed="a mapping of names to values; see docs/config.md")
    return merge_config(loaded, overrides, where=url)


def merge_config(values: Mapping[str, Any] | Any, overrides: Sequence[str], *, where: str) -> BuildConfig:
    """Config of `values` with dotted `overrides`; `where` names the values' origin in errors."""
    unclear = [override for override in overrides if not override.partition("=")[1] or override.startswith("=")]
    if unclear:
        raise ConfigError(
            f"{unclear[0]!r} is no override",
            where="command line",
            allowed="dotted.name=value, e.g. run.workers=4",
        )
    try:
        merged = OmegaConf.merge(values, OmegaConf.from_dotlist(list(overrides)))
        plain: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"the values do not fit together: {error}", where=where) from error
    try:
        # A section that YAML leaves empty (`stages:` and nothing below) is null there, and means the defaults.
        return BuildConfig.model_validate({name: value for name, value in plain.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_words(detail) for detail in error.errors(include_url=False)), where=where
        ) from error


def _words(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        section: Any = BuildConfig
        for part in detail["loc"][:-1]:
            section = section.model_fields[part].annotation
        near = get_close_matches(str(detail["loc"][-1]), section.model_fields, n=1)
        return f"{name} is unknown" + (
            f", did you mean {near[0]}?" if near else f", allowed: {', '.join(section.model_fields)}"
        )
    if detail["type"] == "missing":
        return f"{name} is missing"
    return f"{name}: {detail['msg'].removeprefix('Value error, ')} (got {detail['input']!r:.80})"
