#!/usr/bin/env python
"""Train, validate and test: LightningCLI over this toolkit's tasks and data.

    python train.py fit -c configs/trainer.yaml -c configs/task/segmentation.yaml \
        -c configs/recipe/ultrasound.yaml --data.manifest cases/manifest.csv
"""

import signal
import sys


def _stop(number: int, frame: object) -> None:
    """Until a training listens itself: nothing of it has begun."""
    name = signal.Signals(number).name
    print(f"train.py: stopped by {name} before the first step; nothing was changed", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


if __name__ == "__main__":
    for asked in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(asked, _stop)
    # Said before the imports, which take seconds on a cold disk.
    print("train.py: starting", file=sys.stderr, flush=True)
    try:
        from imaging.commands.train import main
    except KeyboardInterrupt:
        print("train.py: stopped by Ctrl-C before the first step; nothing was changed", file=sys.stderr)
        raise SystemExit(130) from None
    main()
