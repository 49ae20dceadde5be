"""Nothing that comes from outside is ever run: no shell, no pickle, no code out of data."""

from __future__ import annotations

import ast
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import weights
from curation.filters.garment_image import decode_image
from curation.manifest import read_manifest
from media.recording import Recording
from pipelines.configure import load_config
from schemas.errors import VvtError, WeightsError
from schemas.record import Artifacts, decode_clip, decode_record
from tests.test_rooms import MAY_IMPORT, ROOT
from training.shards import read_index
from weights.entry import Entry

FORBIDDEN = {
    "eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler",
    "cloudpickle.load", "cloudpickle.loads", "dill.load", "dill.loads", "joblib.load", "marshal.load", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "subprocess.getoutput",
    "subprocess.getstatusoutput", "pandas.read_pickle", "torch.jit.load",
}  # fmt: skip


def calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place, dotted name of what is called, keyword arguments that are constants) of every call in the project."""
    for room in MAY_IMPORT:
        for file in (ROOT / room).rglob("*.py"):
            tree = ast.parse(file.read_text())
            names = dict(_imported(tree))
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    head, dot, rest = ast.unparse(node.func).partition(".")
                    given = {
                        word.arg: word.value.value if isinstance(word.value, ast.Constant) else ...
                        for word in node.keywords
                        if word.arg
                    }
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", names.get(head, head) + dot + rest, given


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Local name → what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_code_is_made_of_data_and_no_shell_is_asked() -> None:
    wrong = [
        f"{place}: {name}"
        for place, name, given in calls()
        if name in FORBIDDEN
        or given.get("shell")
        or given.get("allow_pickle")
        or (name == "torch.load" and given.get("weights_only") is not True and "pickle_module" not in given)
        or (name == "numpy.load" and given.get("allow_pickle") is not False)
    ]
    assert not wrong
    assert any(name == "numpy.load" for _, name, _ in calls())  # names are resolved: `np` is numpy


class Payload:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def test_the_payload_is_one(mark: Path) -> None:
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()


def _as_npz(payload: bytes) -> bytes:
    """The payload as an array of Python objects."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("pts.npy", "labels.npy", "bits.npy", "width.npy", "keypoints.npy", "scores.npy"):
            file.writestr(name, header.getvalue() + payload)
    return archive.getvalue()


def _read_all(read: Callable[[], object]) -> None:
    with pytest.raises(VvtError):
        read()


@pytest.mark.parametrize("disguise", [bytes, _as_npz])
def test_a_pickle_is_never_run_wherever_it_stands(
    disguise: Callable[[bytes], bytes], mark: Path, tmp_path: Path
) -> None:
    data = disguise(pickle.dumps(Payload(mark)))
    for name in ("source_pts", "parsing", "agnostic_mask", "pose", "hands", "garment", "annotation"):
        _read_all(lambda name=name: Artifacts({name: data})[name])
    (tmp_path / "index.parquet").write_bytes(data)
    manifests = dict.fromkeys((".jsonl", ".csv", ".parquet"), read_manifest)
    for suffix, read in {**manifests, ".yaml": load_config, ".mp4": Recording}.items():
        file = tmp_path / f"it{suffix}"
        file.write_bytes(data)
        _read_all(lambda read=read, file=file: read(str(file)))
    _read_all(lambda: decode_clip(data))
    _read_all(lambda: decode_record(data))
    _read_all(lambda: read_index(str(tmp_path)))
    assert decode_image(data, max_pixels=10**6, max_side=100) is None
    assert not mark.exists()


def test_weights_of_other_bytes_are_not_loaded(mark: Path, tmp_path: Path) -> None:
    """A checkpoint that would run code when it is unpickled, of the right name and size."""
    torch.save({"weight": Payload(mark)}, tmp_path / "model.pth")
    size = (tmp_path / "model.pth").stat().st_size
    entry = Entry(
        name="model", filename="model.pth", sha256="0" * 64, size=size, licence="MIT", purpose="-",
        group="embedded", places=(),
    )  # fmt: skip
    with pytest.raises(WeightsError, match="sha256"):
        weights.Registry([entry], lambda: tmp_path).path("model")
    with pytest.raises(pickle.UnpicklingError):  # and where a stage loads with torch's default, torch refuses, too
        torch.load(tmp_path / "model.pth")
    assert not mark.exists()


def test_arrays_that_unpack_to_too_much_are_refused_before_they_are_unpacked() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("labels.npy", "more.npy"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (3 << 30,)})
            file.writestr(name, header.getvalue())
    bomb = archive.getvalue()
    for entry in bomb.split(b"PK\x01\x02")[1:]:  # the directory says: 3 GiB each
        bomb = bomb.replace(entry, entry[:20] + struct.pack("<I", 3 << 30) + entry[24:])
    with pytest.raises(VvtError, match="6,442,450,944 bytes"):
        Artifacts({"parsing": bomb})["parsing"]


def test_a_dataset_cannot_name_files_outside_itself(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from schemas.errors import DatasetError

    for name in ("/etc/passwd", "../other/shards/train-000000.tar", "shards/../../x.tar", "http://127.0.0.1/x.tar"):
        table = pa.table({"key": ["a-00000000"], "shard": [name], "offset": [0], "split": ["train"]})
        pq.write_table(table, tmp_path / "index.parquet")
        with pytest.raises(DatasetError, match="names a shard"):
            read_index(str(tmp_path))
