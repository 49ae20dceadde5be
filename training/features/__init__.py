"""Networks whose features the metrics compare, in plain torch, under the parameter names of their published files."""

from typing import Literal

Backbone = Literal["alex", "squeeze", "vgg"]
"""The image networks that LPIPS may be measured with."""
