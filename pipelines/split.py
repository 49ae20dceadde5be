"""Train and test: pairs that share a recording, footage or a `split_group` are one group, and a group has one side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from curation.manifest import Manifest
from schemas.config import SplitConfig
from schemas.manifest import Pair

SPLITS = ("train", "test")


def assign_splits(manifest: Manifest, config: SplitConfig, *, shared: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Pair id → "train" or "test". `shared` are pairs of pair ids whose clips show the same footage.

    A group goes to test if the hash of its name falls below `test_share`: a new row never moves the others, unless it
    joins two groups.
    """
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(links: Iterable[str]) -> None:
        first, *others = sorted({root(link) for link in links})
        for other in others:
            parent[other] = first  # the lowest link names the group

    links = {pair.pair_id: _links(pair, manifest) for pair in manifest.pairs}
    for own in links.values():
        join(own)
    for one, two in shared:
        join([links[one][0], links[two][0]])
    return {pair_id: _side(root(own[0]), config) for pair_id, own in links.items()}


def _links(pair: Pair, manifest: Manifest) -> list[str]:
    video = f"video:{manifest.as_written(pair.video)}"
    return [f"group:{pair.split_group}", video] if pair.split_group else [video]


def _side(name: str, config: SplitConfig) -> str:
    digest = hashlib.sha256(f"{config.seed}:{name}".encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") / 2**64 < config.test_share else "train"
