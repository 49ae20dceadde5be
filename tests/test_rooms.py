"""The rooms import downwards only, and the lowest one stays light (DESIGN: rooms, from the ground up)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "schemas": set(),
    "media": {"schemas"},
    "weights": {"schemas"},
    "curation": {"schemas", "media", "weights"},
    "preprocess": {"schemas", "media", "weights"},
    "annotators": {"schemas", "media", "weights"},
    "pipelines": {"schemas", "media", "weights", "curation", "preprocess", "annotators", "training"},
    "training": {"schemas", "media", "weights", "annotators"},
}


def imported_rooms(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names} & set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_down(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    wrong = {
        str(file.relative_to(ROOT)): sorted(imported_rooms(file) - MAY_IMPORT[room] - {room})
        for file in files
        if imported_rooms(file) - MAY_IMPORT[room] - {room}
    }
    assert not wrong


def test_importing_the_schemas_loads_no_heavy_library() -> None:
    modules = [f"schemas.{file.stem}" for file in (ROOT / "schemas").glob("*.py") if file.stem != "__init__"]
    code = f"import sys; import {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    heavy = {"torch", "av", "cv2", "ray", "mediapipe", "pyarrow", "PIL", "scipy", "onnxruntime", "transformers"}
    assert not heavy & set(loaded.split())


def test_no_file_is_too_large_a_room() -> None:
    sizes = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines())
        for room in MAY_IMPORT
        for file in (ROOT / room).rglob("*.py")
    }
    assert not {name: lines for name, lines in sizes.items() if lines > 600}
