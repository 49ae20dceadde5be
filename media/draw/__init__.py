"""Pictures of conditions and labels: pure functions from arrays to (H, W, 3) uint8 RGB."""

from media.draw.hands import hand_picture
from media.draw.overlay import agnostic, densepose_picture, paste, tint
from media.draw.skeleton import VISIBLE, skeleton
from media.draw.timeline import timeline

__all__ = ["VISIBLE", "agnostic", "densepose_picture", "hand_picture", "paste", "skeleton", "timeline", "tint"]
