"""Which files the stages load, from where they can be had, and that they are the right ones.

    weights.path("hand_landmarker")     # a verified file, or WeightsError with the command that gets it
    weights.pull(["embedded", "demo"])  # entries or whole groups
    weights.path("my/hamer.ckpt")       # a file of the user's own, as it is

Files are kept in the folder `VVT_MODELS`, by default `~/.cache/vvt-interact/models`.
"""

from weights.catalog import CATALOG
from weights.entry import Entry, Status
from weights.own import is_path
from weights.registry import Registry

_registry = Registry(CATALOG)

entries = _registry.entries
folder = _registry.folder
path = _registry.path
pull = _registry.pull
recognise = _registry.recognise
sha256 = _registry.sha256
verify = _registry.verify

__all__ = [
    "Entry", "Registry", "Status", "entries", "folder", "is_path", "path", "pull", "recognise", "sha256", "verify",
]  # fmt: skip
