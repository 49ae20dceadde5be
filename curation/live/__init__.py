"""Capture of live streams: closed segments of copied packets, written by the ffmpeg binary."""

from curation.live.capture import Before, Capture, Closed, End, Ending, Gap, Segment
from curation.live.gate import open_gate

__all__ = ["Before", "Capture", "Closed", "End", "Ending", "Gap", "Segment", "open_gate"]
