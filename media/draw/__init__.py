"""Pictures of conditions and labels: pure functions from arrays to (H, W, 3) uint8 RGB."""

from media.draw.hands import MESH_COLOUR, hand_colours, hand_picture, hand_shade
from media.draw.mesh import Mesh, render_meshes, renderer_name
from media.draw.overlay import agnostic, densepose_picture, paste, tint
from media.draw.skeleton import VISIBLE, skeleton
from media.draw.timeline import timeline

__all__ = [
    "MESH_COLOUR",
    "VISIBLE",
    "Mesh",
    "agnostic",
    "densepose_picture",
    "hand_colours",
    "hand_picture",
    "hand_shade",
    "paste",
    "render_meshes",
    "renderer_name",
    "skeleton",
    "timeline",
    "tint",
]
