"""Stage classes by `module:Class`: imported, and checked for what a chain relies on before anything runs."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

from schemas.artifacts import ARTIFACTS
from schemas.errors import ConfigError
from schemas.metrics import Metric
from schemas.stage import Filter, Stage


def import_from_working_directory() -> None:
    """Let the config name a user's own module that lies beside it. Ray hands sys.path on to its workers."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)


def stage_class(path: Any, *, where: str) -> type[Stage]:
    """The class that `path`, `module:Class`, names; `where` is the field of the config that says so.

    Raises:
        ConfigError: no such module or class, a module that cannot be imported, or a class that is no complete stage.

    """
    module_name, _, class_name = str(path).partition(":")
    if not (module_name and class_name) or module_name.startswith("."):
        raise ConfigError(f"{path!r} names no class", where=where, allowed="module:Class")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise _import_error(module_name, error, where=where) from error
        raise ConfigError(
            f"there is no module {module_name!r}", where=where,
            remedy="It must lie in the working directory, on PYTHONPATH, or be installed, on every node",
        ) from error  # fmt: skip
    except Exception as error:  # a module of the user's runs when it is imported: it may raise whatever it likes
        raise _import_error(module_name, error, where=where) from error
    kind = getattr(module, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise ConfigError(f"{module_name} has no Stage called {class_name!r}", where=where)
    if fault := _fault_of(kind):
        raise ConfigError(f"{class_name}: {fault}", where=where)
    return kind


def _import_error(module: str, error: Exception, *, where: str) -> ConfigError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return ConfigError(
        f"importing {module!r} failed: {type(error).__name__}: {error} ({last.filename}:{last.lineno})", where=where
    )


def _fault_of(kind: type[Stage]) -> str:
    for name in ("needs", "uses", "gives", "weights"):
        value = getattr(kind, name)
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            return f'`{name}` is {value!r}; allowed: a tuple of names, such as ("video",)'
    for name in (*kind.needs, *kind.uses, *kind.gives):
        if name not in ARTIFACTS:
            return f"there is no artifact {name!r}; allowed: {', '.join(ARTIFACTS)}"
    if not issubclass(kind, Filter):
        return "" if _overrides(kind, Stage, "process", "process_batch") else "it defines no process()"
    if not isinstance(kind.metrics, dict) or not all(isinstance(metric, Metric) for metric in kind.metrics.values()):
        return "`metrics` is to be a dict of name → schemas.metrics.Metric"
    if not kind.metrics:
        return "a filter without `metrics` measures nothing"
    return "" if _overrides(kind, Filter, "measure", "process", "process_batch") else "it defines no measure()"


def _overrides(kind: type, base: type, *methods: str) -> bool:
    return any(getattr(kind, method) is not getattr(base, method) for method in methods)
