"""The dataset's card: `dataset.json` for programs, `README.md` for people. No clock and no machine in either."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from curation.manifest import Manifest
from pipelines.chain import Chain
from pipelines.pack import Packed, SplitTotals
from schemas.artifacts import ARTIFACTS
from schemas.config import BuildConfig
from schemas.tables import META_MEMBER, SCHEMA_VERSION, SIDECAR_COPIES


def dataset_json(
    config: BuildConfig,
    chain: Chain,
    packed: Packed,
    *,
    contents: str,
    drops: Counter[str],
    failures: Counter[str],
    seen: int,
) -> dict[str, Any]:
    """All that `dataset.json` holds."""
    sidecars = {name: [asdict(shard) for shard in shards] for name, shards in packed.sidecars.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": config.name,
        "contents": contents,
        "code_version": code_version(),
        "splits": {split: _totals(totals) for split, totals in packed.splits.items()},
        "clips": {
            "seen": seen,
            "kept": packed.samples,
            "dropped": dict(sorted(drops.items(), key=_most)),
            "failed": dict(sorted(failures.items(), key=_most)),
        },
        "members": members_given(chain),
        "shards": [asdict(shard) for shard in packed.shards],
        **({"sidecars": sidecars} if sidecars else {}),
        "models": _models(chain),
        "stages": {
            stage.name: {"fingerprint": chain.fingerprints[stage.name], **stage.model_dump(mode="json")}
            for stage in chain.stages
        },
        "ingest": chain.ingest.model_dump(mode="json"),
    }


def _most(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def members_given(chain: Chain) -> list[str]:
    """Members that every sample made by `chain` has."""
    return [*sorted(ARTIFACTS[name].member for name in chain.given if ARTIFACTS[name].shared), META_MEMBER]


def sidecars_given(chain: Chain) -> list[str]:
    """Artifacts that every sample made by `chain` has in a sidecar."""
    return sorted(name for name in chain.given if ARTIFACTS[name].sidecar)


def code_version() -> str:
    """Version of this package, or "unknown" in a bare checkout."""
    try:
        return version("vvt-interact")
    except PackageNotFoundError:
        return "unknown"


def _totals(totals: SplitTotals) -> dict[str, Any]:
    return {**asdict(totals), "hours": round(totals.hours, 4)}


def _models(chain: Chain) -> list[dict[str, str]]:
    import weights

    names = sorted({name for stage in chain.stages for name in stage.model_files})
    entries = {entry.name: entry for entry in weights.entries()}
    known = {name: weights.recognise(name) if weights.is_path(name) else entries[name] for name in names}
    return [
        {
            "name": Path(name).name,
            "sha256": weights.sha256(name),
            "licence": entry.licence if entry else "the user's own file: not known here",
        }
        for name, entry in known.items()
    ]


def dataset_card(described: dict[str, Any], manifest: Manifest) -> str:
    """`README.md` of a dataset, with the front matter that dataset hubs read."""
    splits, clips = described["splits"], described["clips"]
    licences = Counter(pair.licence or "not stated" for pair in manifest.pairs)
    lines = [
        "---",
        f"pretty_name: {described['name']}",
        "task_categories: [image-to-video]",
        "tags: [virtual-try-on, video, webdataset]",
        "---",
        "",
        f"# {described['name']}",
        "",
        "Clips of people who handle the clothes that they wear, each with a garment image, pose, hands, an agnostic",
        f"mask and time-stamped captions of every interaction. Built with vvt-interact {described['code_version']}.",
        "",
        *_table(
            ("split", "samples", "frames", "interactive frames", "interactions", "hours"),
            [
                (name, s["samples"], s["frames"], s["interactive_frames"], s["actions"], s["hours"])
                for name, s in splits.items()
            ],
        ),
        "",
        "## Files",
        "",
        "`shards/*.tar` are WebDataset; `index.parquet` has a row a sample, `decisions.parquet` a row a clip seen.",
        "Each sample holds " + ", ".join(f"`KEY.{member}`" for member in described["members"]) + ".",
        "",
        *_table(
            ("member", "content"),
            [(kind.member, kind.about) for kind in ARTIFACTS.values() if kind.member in described["members"]],
        ),
        "",
        *_sidecars(described.get("sidecars", {})),
        "## What was kept",
        "",
        f"{clips['kept']} of {clips['seen']} clips.",
        "",
        *_table(
            ("reason", "clips"),
            [(f"dropped by {reason}", count) for reason, count in clips["dropped"].items()]
            + [(f"failed: {reason}", count) for reason, count in clips["failed"].items()],
        ),
        "",
        *_streams(described.get("live", [])),
        "## Models",
        "",
        *_table(
            ("model", "licence", "sha256"),
            [(m["name"], m["licence"], m["sha256"][:16]) for m in described["models"]],
        ),
        "",
        "## Licences of the recordings",
        "",
        *_table(("licence", "pairs"), sorted(licences.items(), key=_most)),
        "",
    ]
    return "\n".join(lines)


def _sidecars(sidecars: dict[str, Any]) -> list[str]:
    lines = []
    for name in sidecars:
        copies = " and ".join(f"`KEY.{member}`" for member in SIDECAR_COPIES)
        lines += [
            f"`{name}/*.tar` hold the same samples as `shards/*.tar` of the same names, each with {copies} and "
            f"`KEY.{ARTIFACTS[name].member}`, {ARTIFACTS[name].about}.",
            "",
        ]
    return lines


def _streams(live: list[dict[str, Any]]) -> list[str]:
    if not live:
        return []
    head = ("live row", "segments", "hours", "gaps", "hours lost", "ended by")
    rows = [
        (
            stream["pair_id"],
            stream["segments"],
            f"{stream['seconds'] / 3600:.2f}",
            len(stream["gaps"]),
            f"{sum(gap['seconds'] for gap in stream['gaps']) / 3600:.2f}",
            stream["ending"] or "not yet",
        )
        for stream in live
    ]
    words = "`dataset.json` has every gap: when, how long, and why."
    return ["## Live streams", "", *_table(head, rows), "", words, ""]


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    if not rows:
        return ["None."]
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in [head, *rows]]
    return [
        "| " + " | ".join(cells[0]) + " |", "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in cells[1:]),
    ]  # fmt: skip
