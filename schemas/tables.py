"""Parquet schemas of a written dataset, and the JSON of a sample."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from schemas.clip import Source, Span
from schemas.manifest import Pair

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
"""Version of the written dataset. Readers refuse another one."""

META_MEMBER = "meta.json"

SHARD_NAME = r"shards/[A-Za-z0-9][A-Za-z0-9._-]*\.tar"
"""Names of shards, as dataset.json and index.parquet give them: never outside the dataset's folder."""

SIDECAR_SHARD_NAME = SHARD_NAME.replace("shards", "[a-z_]+", 1)
"""The same of sidecars."""
SIDECAR_COPIES = (META_MEMBER, "annotation.json")
"""Members that a sample of a sidecar has of the one beside it, so that it can be read alone."""


def beside(shard: str, sidecar: str) -> str:
    """Name of the sidecar's shard that holds the same samples as `shard`: shards/X.tar → latents/X.tar."""
    return f"{sidecar}/{shard.partition('/')[2]}"


class Meta(BaseModel):
    """`KEY.meta.json`: where a sample comes from and how it was made. No clock and no machine in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    key: str
    pair: Pair
    source: Source
    span: Span
    garment_source: str
    stages: dict[str, str]
    metrics: dict[str, float]


def index_schema(metrics: Iterable[str], *, sidecars: Iterable[str] = ()) -> pa.Schema:
    """`index.parquet`: a row a sample. `offset` is the byte in `shard` where the sample's first tar header begins.

    Each of `sidecars` has a column: the same of the shard `beside`, and size and sha256 of the artifact that is there.
    """
    import pyarrow as pa

    action = pa.struct(
        [
            ("category", pa.string()),
            ("caption", pa.string()),
            ("start_frame", pa.int32()),
            ("end_frame", pa.int32()),
        ]
    )
    member = pa.struct([("name", pa.string()), ("size", pa.int64()), ("sha256", pa.string())])
    sidecar = pa.struct([("offset", pa.int64()), ("size", pa.int64()), ("sha256", pa.string())])
    return pa.schema(
        [
            ("key", pa.string()),
            ("split", pa.string()),
            ("shard", pa.string()),
            ("offset", pa.int64()),
            ("pair_id", pa.string()),
            ("part", pa.string()),
            ("split_group", pa.string()),
            ("licence", pa.string()),
            ("garment_source", pa.string()),
            ("categories", pa.list_(pa.string())),
            ("frames", pa.int32()),
            ("interactive_frames", pa.int32()),
            ("fps", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("global_caption", pa.string()),
            ("actions", pa.list_(action)),
            ("members", pa.list_(member)),
            *((name, sidecar) for name in sorted(sidecars)),
            ("metrics", _metrics_type(metrics)),
        ]
    )


def decisions_schema(metrics: Iterable[str]) -> pa.Schema:
    """`decisions.parquet`: a row a clip ever seen, and one a recording that gave none.

    `verdict` is kept, dropped, failed or unfinished (its remaining stages have not run yet). `first_frame` to
    `last_frame` and the seconds are of the recording; `seconds` is what was spent on the clip. `duplicate_of` is the
    better copy that shows most of what the clip has in common with others.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("key", pa.string()),
            ("pair_id", pa.string()),
            ("video", pa.string()),
            ("verdict", pa.string()),
            ("stage", pa.string()),
            ("metric", pa.string()),
            ("value", pa.float64()),
            ("bound_low", pa.float64()),
            ("bound_high", pa.float64()),
            ("words", pa.string()),
            ("duplicate_of", pa.string()),
            ("error_code", pa.string()),
            ("error", pa.string()),
            ("traceback", pa.string()),
            ("first_frame", pa.int64()),
            ("last_frame", pa.int64()),
            ("start_seconds", pa.float64()),
            ("end_seconds", pa.float64()),
            ("frames", pa.int32()),
            ("fps", pa.float64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("seconds", pa.float64()),
            ("metrics", _metrics_type(metrics)),
        ]
    )


def _metrics_type(names: Iterable[str]) -> Any:
    import pyarrow as pa

    # Parquet has no empty struct.
    return pa.struct([(name, pa.float64()) for name in sorted(set(names)) or ["none"]])
