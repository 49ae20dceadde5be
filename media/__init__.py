"""Probe, read, normalise and encode video."""

from media.encode import EncodedClip, normalise
from media.frames import FrameBatch, forget, frames
from media.probing import describe, probe
from media.reader import FrameReader, open_reader

__all__ = [
    "EncodedClip",
    "FrameBatch",
    "FrameReader",
    "describe",
    "forget",
    "frames",
    "normalise",
    "open_reader",
    "probe",
]
