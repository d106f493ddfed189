#!/usr/bin/env python
"""An export in, DICOM results out: `imaging infer` without installing a command.

python infer.py EXPORT --out OUT [--package DIR ...] [--site NAME] [--content-time T] [--dry-run]
"""

import sys

from imaging.commands import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
