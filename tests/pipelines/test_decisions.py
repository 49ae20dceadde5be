"""The questions of docs/decisions.md, asked as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys

import duckdb
import pytest

from pipelines.reference import DOCS
from tests.pipelines.conftest import Job


def test_the_documented_questions_are_answered(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.record("jacket-17", brightness=130, seconds=3)
    job.record("dark", brightness=15)
    job.add("absent")
    brightness = {"use": "tests.pipelines.stages:Brightness", "bounds": {"brightness": [40, None]}}
    job.build(stages={"brightness": brightness})
    monkeypatch.chdir(job.folder)
    text = (DOCS / "decisions.md").read_text()
    drops, recording, failures, bound = (
        duckdb.sql(query).fetchall() for query in re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    )
    ((stage, metric, clips, median, low, high),) = drops
    assert (stage, metric, clips, low, high) == ("brightness", "brightness", 1, 40, None)
    assert median < 40
    assert [row[0] for row in recording] == ["jacket-17-00000000"]
    ((stage, code, count, example),) = failures
    assert (stage, code, count) == ("ingest", "missing", 1)
    assert "no such file" in example
    assert bound[0][1] == 2
    code_of_pandas = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code_of_pandas
    done = subprocess.run([sys.executable, "-c", code_of_pandas[1]], capture_output=True, text=True, timeout=60)
    assert "brightness" in done.stdout, done.stderr
