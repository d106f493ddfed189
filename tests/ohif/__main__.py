"""`python -m tests.ohif FILES MODULES STUDIES OUT`: one browser session beside the archive that is running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.archive import URL
from tests.ohif.serve import PORT, server

files, modules, studies, out = map(Path, sys.argv[1:5])
served = server(files, URL)
session = modules / "session.mjs"  # node looks for modules beside the script
session.write_bytes((Path(__file__).parent / "session.mjs").read_bytes())
command = ["node", session, f"http://127.0.0.1:{PORT}", studies, out]
done = subprocess.run([str(part) for part in command], check=False, env=dict(os.environ))
served.shutdown()
raise SystemExit(done.returncode)
