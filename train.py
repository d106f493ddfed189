#!/usr/bin/env python
"""Train, validate and test: LightningCLI over this toolkit's tasks and data.

    python train.py fit -c configs/trainer.yaml -c configs/task/segmentation.yaml \
        -c configs/recipe/ultrasound.yaml --data.manifest cases/manifest.csv
"""

from imaging.commands.train import main

if __name__ == "__main__":
    main()
