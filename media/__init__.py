"""Probe, read, normalise and encode video."""

from media.frames import FrameBatch, forget, frames

__all__ = ["FrameBatch", "forget", "frames"]
