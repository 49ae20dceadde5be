"""`make demo`: fetch models and small real videos, build a dataset of them, draw what was made."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

import weights
from pipelines.build import build
from pipelines.configure import load_config
from pipelines.contact_sheet import contact_sheet
from pipelines.summary import print_summary
from schemas.errors import VvtError

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
FOLDER = Path("demo-out")
ROWS: tuple[dict[str, Any], ...] = (
    {"pair_id": "walking_man-upper", "video": "walking_man", "part": "upper", "end": 4},
    {"pair_id": "walking_man-lower", "video": "walking_man", "part": "lower", "end": 4},
    {"pair_id": "face_noface", "video": "face_noface", "part": "upper"},
    {"pair_id": "woman_hand_before_face", "video": "woman_hand_before_face", "part": "upper", "end": 6},
    {"pair_id": "two_in_a_park", "video": "two_in_a_park", "part": "lower"},
)


def main() -> int:
    """Run the demo in the working directory; return its exit status."""
    console = Console()
    try:
        weights.pull(["embedded", "demo"], progress=lambda words: typer.echo(words, err=True))
        write_manifest(FOLDER)
        os.chdir(FOLDER)
        summary = build(load_config(str(CONFIG)))
        print_summary(summary, console)
        if not summary.kept:
            return 3
        sheet = contact_sheet(summary.output, out=Path("contact_sheet.png"))
    except VvtError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        return 2
    console.print(f"What was made, drawn on its frames: {FOLDER / sheet}")
    return 0


def write_manifest(folder: Path) -> Path:
    """Lay the sample videos and a manifest over them into `folder`. None has a garment image: one is cut out."""
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    licences = {entry.name: entry.licence for entry in weights.entries()}
    rows = []
    for row in ROWS:
        video = weights.path(row["video"])
        copy = folder / "recordings" / video.name
        if not copy.exists():
            shutil.copy2(video, copy)  # with its times: a second demo sees the same recording
        given = {"video": f"recordings/{video.name}", "garment": None, "licence": licences[row["video"]]}
        rows.append({**row, **given})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


if __name__ == "__main__":
    sys.exit(main())
