"""Videos that were made, as files of the form that clips have (`media.encode`)."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from media.encode import ClipEncoder
from media.recording import DecodedFrame
from schemas.conditions import UInt8

_CRF = 14
"""Finer than that of clips: what is scored is the model's picture, not the encoder's."""


def encode_video(frames: UInt8, *, fps: Fraction) -> bytes:
    """(T, H, W, 3) uint8 RGB, T ≥ 1, H and W even → H.264 in mp4, BT.709, frame n at n / fps; the same bytes always."""
    height, width = frames.shape[1:3]
    encoder = ClipEncoder(width=width, height=height, fps=fps, time_base=1 / fps, crf=_CRF)
    for number, frame in enumerate(frames):
        encoder.add(DecodedFrame(index=number, pts=number, picture=_picture(frame), bytes=0))
    return encoder.finish().video


def write_whole(file: Path, data: bytes) -> None:
    """Write `file` such that it is there whole or not at all, whatever interrupts."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)


def _picture(frame: UInt8) -> VideoFrame:
    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    picture.colorspace, picture.color_range = Colorspace.ITU709, ColorRange.MPEG
    picture.color_primaries, picture.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return picture
