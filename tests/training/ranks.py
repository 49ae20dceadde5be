"""What each of two processes runs in `test_train.py`: python -m tests.training.ranks CONFIG {ddp,fsdp},OUT,STEPS …"""

from __future__ import annotations

import sys
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DistributedType

from training import parallel, trainer
from training.settings_file import read_settings
from training.train_settings import TrainSettings


def sharded_on_cpus(settings: TrainSettings) -> Accelerator:
    """Accelerate knows FSDP on GPUs only; torch itself does it on CPUs too."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=settings.accumulate)
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = parallel.fsdp_plugin(settings.parallel, bf16=False)
    return accelerator


def main() -> None:
    config, *runs = Path(sys.argv[1]), *sys.argv[2:]
    for run in runs:
        strategy, out, steps = run.split(",")
        if strategy == "fsdp":
            trainer.make_accelerator = sharded_on_cpus
        trainer.Trainer(read_settings(TrainSettings, config, [f"out={out}", f"steps={steps}"])).run()


if __name__ == "__main__":
    main()
