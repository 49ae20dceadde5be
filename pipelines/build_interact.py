"""Build the dataset, as a script for `ray job submit`.

    ray job submit --working-dir . -- python pipelines/build_interact.py configs/default.yaml manifest=… output=…

Takes what `vvt build` takes: a YAML config, then dotted overrides.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # As a script, Python puts this folder, not the checkout, on the path: `pipelines` itself could not be imported.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from pipelines.cli import main

    sys.argv[1:1] = ["build"]
    main()
