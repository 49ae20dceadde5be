"""docs/other_trainers.md: its programs run as they stand, and each reader gives every sample of the split once."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from schemas.artifacts import ARTIFACTS
from tests.training.build import artifacts, write_dataset

PAGE = Path(__file__).resolve().parents[2] / "docs/other_trainers.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
[COMMAND] = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
SHARED, *READERS = PROGRAMS
TRAIN_KEYS = [f"pair{number:03d}-{number * 7:08d}" for number in range(7)]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def needs(package: str) -> None:
    if importlib.util.find_spec(package.partition(".")[0]) is None or importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed, so its program was not run")


def program(words: str) -> str:
    [found] = [text for text in READERS if words in text]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the page wants it: OUT, of four train shards, and the shared file."""
    folder = tmp_path_factory.mktemp("page")
    write_dataset(folder / "OUT", [2, 2, 2, 1], test=2)
    (folder / "interact_sample.py").write_text(SHARED)
    return folder


@pytest.fixture
def page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield folder
    sys.modules.pop("interact_sample", None)


def run(text: str, **names: Any) -> dict[str, Any]:
    names["__name__"] = "page"
    sys.modules["page"] = module = type(sys)("page")  # where dataclasses look up the names of their types
    vars(module).update(names)
    exec(compile(text, str(PAGE), "exec"), vars(module))
    return vars(module)


def keys_printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("pair")]


def check_sample(sample: dict[str, Any]) -> None:
    """The first four frames of the sample that `artifacts` makes."""
    expected = artifacts()
    mask = torch.from_numpy(expected["agnostic_mask"][:4])
    assert tuple(sample["video"].shape) == (4, 3, 64, 48)
    assert abs(int(sample["video"][0, 0, 32, 4]) - 200) <= 3
    assert torch.equal(sample["mask"][:, 0], mask)
    assert np.array_equal(np.asarray(sample["garment"]).reshape(-1)[:3], expected["garment"].reshape(-1)[:3])
    assert sample["caption"] == expected["annotation"].global_caption


def test_the_shared_file_decodes_a_sample(page):
    values = artifacts()
    members = {ARTIFACTS[name].member: ARTIFACTS[name].encode(value) for name, value in values.items()}
    sample = run(SHARED)["decode"](members)

    check_sample(sample)
    assert tuple(sample["garment"].shape) == (3, 40, 30)
    assert [action["start_frame"] for action in sample["actions"]] == [2]


def test_webdataset(page, capsys):
    names = run(program("WebDataset("))

    assert sorted(keys_printed(capsys)) == TRAIN_KEYS
    check_sample(next(iter(names["dataset"])))


def test_webdataset_deals_shards_to_ranks(page, capsys, monkeypatch):
    got = []
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        run(program("WebDataset("))
        got.append(keys_printed(capsys))

    assert min(map(len, got)) >= 3
    assert sorted([*got[0], *got[1]]) == TRAIN_KEYS


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Path:
    needs("megatron.energon")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(COMMAND, shell=True, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True)
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    return folder


def test_energon(prepared, page, capsys):
    names = run(program("megatron.energon").replace("workers=2", "workers=0"))  # they take 5 s each to end

    assert tuple(names["batch"].video.shape) == (2, 4, 3, 64, 48)
    check_sample({field: getattr(names["batch"], field)[0] for field in ("video", "mask", "garment", "caption")})
    assert names["following"].__key__ == next(names["batches"]).__key__ != names["batch"].__key__


def test_energon_deals_samples_to_ranks(prepared, page):
    load = run(program("megatron.energon").partition("loader = load(")[0])["load"]
    ranks = [load(rank=rank, world_size=3, workers=0, repeat=False) for rank in range(3)]
    got = [[key for batch in loader for key in batch.__key__] for loader in ranks]

    assert min(map(len, got)) >= 2
    assert sorted([*got[0], *got[1], *got[2]]) == TRAIN_KEYS


@pytest.fixture
def hugging_face(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    needs("datasets")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path)
    return page


def test_datasets_from_the_index(hugging_face, capsys):
    names = run(program("OUT/index.parquet"))

    assert sorted(keys_printed(capsys)) == TRAIN_KEYS
    assert len(names["dataset"]) == len(TRAIN_KEYS)
    check_sample(names["dataset"][3]["sample"])
    assert names["dataset"][3]["key"] == TRAIN_KEYS[3]
    one = names["read_members"]("shards/train-000001.tar", 0)
    assert set(one) >= {kind.member for kind in ARTIFACTS.values() if kind.shared and kind.required}


def test_datasets_streaming(hugging_face, capsys):
    names = run(program("streaming=True"))

    assert sorted(keys_printed(capsys)) == TRAIN_KEYS
    check_sample(names["decode_row"](next(iter(names["stream"]))))


@pytest.mark.parametrize("world_size", [2, 3])
def test_datasets_deals_samples_to_ranks(hugging_face, capsys, world_size):
    text = program("streaming=True")
    got = []
    for rank in range(world_size):
        run(text.replace("rank=0, world_size=1", f"rank={rank}, world_size={world_size}"))
        got += keys_printed(capsys)

    assert sorted(got) == TRAIN_KEYS
