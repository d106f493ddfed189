"""`python -m imaging`."""

import sys

from imaging.commands import main

sys.exit(main())
