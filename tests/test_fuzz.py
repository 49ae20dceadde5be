"""Whatever bytes or values come in, typed errors come out. Examples are fixed: a failure here can be had again."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.manifest import read_manifest
from pipelines.chain import make_chain
from pipelines.configure import load_config, merge_config
from pipelines.validate_shard import check_shard
from schemas.artifacts import ARTIFACTS, check
from schemas.clip import Clip
from schemas.conditions import Contact, PersonTrack
from schemas.errors import ManifestError, VvtError
from schemas.manifest import Pair
from schemas.record import Artifacts, decode_clip, decode_head, decode_record, encode_clip, encode_record
from schemas.tables import Meta
from tests.pipelines.stages import GivesLatents
from tests.training.build import artifacts, full_tier, members, meta
from training.shards import Entry, read_members, scan_shards

FRAMES, HEIGHT, WIDTH = 6, 64, 48


def few(examples: int) -> Callable[[Any], Any]:
    """Settings of a property: so many examples, always the same."""
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with some bytes changed, a piece taken out or doubled, or its end cut off."""
    broken = bytearray(data)
    for at, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=8)):
        broken[-1 - at if at % 2 else at] = byte  # both ends as often as the middle: there lie the directories
    start = draw(st.integers(0, len(data)))
    end = min(len(data), start + draw(st.sampled_from((0, 0, 1, 4, 100))))
    times = draw(st.sampled_from((0, 2)))
    broken[start:end] = broken[start:end] * times
    return bytes(broken[: draw(st.sampled_from((len(broken), len(broken), start)))])


def sample_clip() -> Clip:
    """A clip with a value of every artifact."""
    values = artifacts(frames=FRAMES, height=HEIGHT, width=WIDTH)
    about = meta(values, key="pair-00000000")
    values |= {
        "source_pts": np.arange(FRAMES, dtype=np.int64),
        "parsing": np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8),
        **full_tier(frames=FRAMES, height=HEIGHT, width=WIDTH),
        "person": PersonTrack(
            np.zeros((FRAMES, 4), np.float32), np.zeros(FRAMES, np.float32), np.zeros(FRAMES, np.uint8)
        ),
        "garment_track": np.ones((FRAMES, HEIGHT, WIDTH), bool),
        "contact": Contact(np.zeros((FRAMES, 2), np.float32), np.zeros((FRAMES, 2, 2), np.float32)),
    }
    clip = Clip(
        key=about.key, pair=about.pair, source=about.source, span=about.span, artifacts=values, metrics={"m": 1}
    )
    GivesLatents().process(clip)
    return clip


CLIP = sample_clip()
STORED, RECORD = encode_clip(CLIP), encode_record(CLIP)
MEMBERS = {name: ARTIFACTS[name].encode(value) for name, value in CLIP.artifacts.items()}


def test_every_artifact_is_tried() -> None:
    assert set(MEMBERS) == set(ARTIFACTS)


@few(120)
@given(damaged(STORED))
def test_stored_clips(data: bytes) -> None:
    with suppress(VvtError):
        clip = decode_clip(data)
        for name in clip.artifacts:
            check(name, clip.artifacts[name], clip)
    with suppress(VvtError):
        decode_head(data)


@few(120)
@given(damaged(RECORD))
def test_records(data: bytes) -> None:
    with suppress(VvtError):
        assert isinstance(decode_record(data), Clip)


@pytest.mark.parametrize("name", sorted(set(ARTIFACTS) - {"video"}))
def test_artifacts(name: str) -> None:
    @few(20)
    @given(damaged(MEMBERS[name]))
    def holds(data: bytes) -> None:
        with suppress(VvtError):
            check(name, Artifacts({name: data})[name], CLIP)

    holds()


def _shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        values = artifacts(frames=FRAMES, height=HEIGHT, width=WIDTH)
        for member, content in members(values, key=CLIP.key).items():
            about = tarfile.TarInfo(f"{CLIP.key}.{member}")
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return buffer.getvalue()


@st.composite
def damaged_shard(draw: st.DrawFn, data: bytes) -> bytes:
    """A shard with changed headers whose checksums are right all the same."""
    broken = bytearray(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        headers = [member.offset for member in tar]
    for header in draw(st.lists(st.sampled_from(headers), max_size=3)):
        at, value = draw(st.integers(0, 511)), draw(st.integers(0, 255))
        broken[header + at] = value
        broken[header + 148 : header + 156] = b"%06o\0 " % tarfile.calc_chksums(bytes(broken[header : header + 512]))[0]
    return draw(damaged(bytes(broken))) if draw(st.booleans()) else bytes(broken)


SHARD = _shard()


@few(40)
@given(data=damaged_shard(SHARD))
def test_shards(data: bytes, tmp_path: Path) -> None:
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes(data)
    with suppress(VvtError):
        for entry in scan_shards([str(shard)]):
            read_members(entry)
    with suppress(VvtError):
        assert b"" not in read_members(Entry(CLIP.key, str(shard), 0, None))
    report = check_shard(str(shard), [], name="it", size=len(data), sha256="", required=frozenset())
    assert report.problems  # at least that its hash is another


@pytest.mark.parametrize("link", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_in_shards_lead_nowhere(link: bytes, tmp_path: Path) -> None:
    shard = tmp_path / "train-000000.tar"
    (tmp_path / "secret").write_text("secret")
    with tarfile.open(shard, "w") as tar:
        about = tarfile.TarInfo("pair-00000000.video.mp4")
        about.type, about.linkname = link, str(tmp_path / "secret")
        tar.addfile(about)
    assert read_members(Entry("pair-00000000", str(shard), 0, None)) == {}
    assert check_shard(str(shard), [], name="it", size=0, sha256="", required=frozenset()).problems


def test_a_tar_of_thousands_of_long_names_is_damaged(tmp_path: Path) -> None:
    """`tarfile` follows them by recursion."""
    about = tarfile.TarInfo("././@LongLink")
    about.type, about.size = tarfile.GNUTYPE_LONGNAME, 10
    shard = tmp_path / "train-000000.tar"
    shard.write_bytes((about.tobuf(tarfile.GNU_FORMAT) + bytes(512)) * 3000)
    with pytest.raises(VvtError, match="cannot be read"):
        scan_shards([str(shard)])
    assert check_shard(str(shard), [], name="it", size=0, sha256="", required=frozenset()).problems


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(("", "1:00", "upper"))
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner), max_leaves=3
)
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys([*Pair.model_fields, "another"], VALUES))
GOOD = {"pair_id": "a", "video": "v.mp4", "garment": "g.png", "part": "upper", "start": 1.5}


def _manifest(tmp_path: Path, suffix: str, data: bytes) -> None:
    path = tmp_path / f"manifest{suffix}"
    path.write_bytes(data)
    with suppress(ManifestError):
        assert read_manifest(str(path)).pairs


def _as_parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def _as_csv(rows: list[dict[str, Any]]) -> bytes:
    lines = [",".join(GOOD), *(",".join(str(row.get(name, "")) for name in GOOD) for row in rows)]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


WRITERS = {".jsonl": _as_jsonl, ".csv": _as_csv, ".parquet": _as_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_manifests_of_any_bytes(suffix: str, tmp_path: Path) -> None:
    @few(60)
    @given(damaged(WRITERS[suffix]([GOOD, {**GOOD, "pair_id": "b"}])))
    def holds(data: bytes) -> None:
        _manifest(tmp_path, suffix, data)

    holds()


@few(50)
@given(rows=st.lists(st.one_of(ROWS, ROWS.map(lambda row: GOOD | row)), min_size=1, max_size=2))
def test_manifests_of_any_values(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for suffix, write in WRITERS.items():
        try:
            data = write(rows)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):  # no such Parquet can be
            continue
        _manifest(tmp_path, suffix, data)


YAML = b"""manifest: m.jsonl
output: out
ingest: {detector: pyscenedetect, limits: {max_hours: 2}}
stages:
  blur: {bounds: {blur: [null, 0.5]}}
  text: null
run: {workers: 2}
"""
CONFIGS = st.recursive(
    SCALARS | st.sampled_from(("${oc.env:HOME}", "${manifest}", "???", "module:Class", "os:system")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("ingest", "limits", "stages", "blur", "bounds", "use", "run", "after", "x")), inner
        )
    ),
    max_leaves=4,
)


@few(80)
@given(data=damaged(YAML))
def test_configs_of_any_bytes(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(data)
    with suppress(VvtError):
        make_chain(load_config(str(tmp_path / "config.yaml")))


@few(60)
@given(given_values=CONFIGS, name=st.sampled_from(("ingest", "stages", "run", "shards", "tier", "name")))
def test_configs_of_any_values(given_values: Any, name: str) -> None:
    with suppress(VvtError):
        make_chain(merge_config({"manifest": "m", "output": "o", name: given_values}, (), where="test"))


@few(60)
@given(st.text(max_size=12), st.sampled_from(("", "stages.blur.", "ingest.limits.", "run.workers=", "name=")))
def test_overrides_of_any_text(text: str, start: str) -> None:
    with suppress(VvtError):
        make_chain(merge_config({"manifest": "m", "output": "o"}, [start + text], where="test"))


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 5000 + "]" * 5000,
        "a: " + "{b: " * 3000 + "1" + "}" * 3000,
        "a: &a [*a]",
        "a: &a [x,x,x,x]\n"
        + "\n".join(f"{n}: &{n} [{','.join([f'*{p}'] * 9)}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)),
        "name: " + "9" * 5000,
        "name: !!python/object/apply:os.getcwd []",
    ],
)
def test_configs_that_explode_are_no_configs(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"manifest: m\noutput: o\n{text}\n")
    with pytest.raises(VvtError):
        load_config(str(tmp_path / "config.yaml"))


@few(60)
@given(damaged(members(artifacts(frames=3), key="pair-00000000")["meta.json"]))
def test_provenance_of_samples(data: bytes) -> None:
    with suppress(ValueError):  # pydantic's, which the readers turn into theirs
        assert Meta.model_validate_json(data).key
