"""The docs say what is true: generated pages are fresh, examples run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.chain import make_chain
from pipelines.configure import merge_config
from pipelines.reference import DOCS, PAGES
from tests.pipelines.conftest import Job
from training.evaluate import JudgeConfig
from training.quality_settings import QualitySettings


@pytest.mark.parametrize("page", PAGES)
def test_generated_pages_are_fresh(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "stale: run `python -m pipelines.reference`"


def test_the_documented_filter_works_through_the_config(tmp_path: Path) -> None:
    text = (DOCS / "filters.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    config = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert code
    assert config
    lines = [line for line in code[1].splitlines() if line.strip()]
    assert len(lines) <= 12
    (tmp_path / "my_filters.py").write_text(code[1])
    (tmp_path / "config.yaml").write_text(config[1])
    job = Job(tmp_path)
    job.record("good", brightness=130)
    job.record("dark", brightness=15)
    job.config()  # writes the manifest
    overrides = ["manifest=manifest.jsonl", "output=out", "tier=none", "ingest.detector=pyscenedetect"]
    command = [sys.executable, "-m", "pipelines.cli", "build", "config.yaml", *overrides, "ingest.min_seconds=1"]
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["pair_id"]: row for row in job.decisions()}
    assert rows["good"]["verdict"] == "kept"
    assert (rows["dark"]["verdict"], rows["dark"]["stage"], rows["dark"]["bound_low"]) == ("dropped", "brightness", 40)
    assert rows["dark"]["metrics"]["brightness"] < 40


def yaml_blocks() -> list[tuple[str, str]]:
    pages = sorted(DOCS.glob("*.md"))
    return [
        (page.name, text) for page in pages for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ]


@pytest.mark.parametrize(("page", "text"), yaml_blocks())
def test_configs_in_the_docs_are_accepted(page: str, text: str) -> None:
    given = yaml.safe_load(text)
    if "apiVersion" in given:  # of Kubernetes: nothing here reads it
        assert {"kind", "metadata", "spec"} <= set(given)
        return
    if "my_filters" in text:  # has a test of its own
        return
    if "judging" in given:
        JudgeConfig.model_validate(given)
        return
    if "vfid_frames" in given:
        assert QualitySettings.model_validate(given) == QualitySettings()
        return
    make_chain(merge_config({"manifest": "m.jsonl", "output": "out", **given}, (), where=page))


def test_links_between_pages_lead_somewhere() -> None:
    root = DOCS.parent
    pages = [*root.glob("*.md"), *DOCS.glob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:\s]+)\)", page.read_text())
        if not Path(page.parent, target).exists()
    ]
    assert not broken
