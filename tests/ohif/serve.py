"""OHIF's files, and the archive's DICOMweb under the same origin: what a browser on the loopback opens.

Files that are not there are the application's own pages. Mammograms lose (0028,1056) in metadata, which OHIF misreads.
"""

from __future__ import annotations

import http.server
import json
import threading
import urllib.request
from pathlib import Path

PORT = 18053
CONFIGURATION = {
    "routerBasename": "/",
    "extensions": [],
    "modes": [],
    "showStudyList": True,
    "maxNumberOfWebWorkers": 2,
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "archive",
                "name": "archive",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "wadoUriRoot": "/wado",
                "qidoSupportsIncludeField": False,
                "supportsReject": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "omitQuotationForMultipartRequest": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}


def server(files: Path, archive: str) -> http.server.ThreadingHTTPServer:
    """Serves in a thread until it is shut down."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, directory=str(files), **more)  # type: ignore[arg-type]

        def end_headers(self) -> None:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def do_GET(self) -> None:
            if self.path.startswith(("/dicom-web", "/wado")):
                self._pass_on()
            elif self.path.startswith("/app-config.js"):
                self._answer(f"window.config = {json.dumps(CONFIGURATION)};".encode(), "text/javascript")
            else:
                if not (files / self.path.split("?")[0].lstrip("/")).is_file():
                    self.path = "/index.html"
                super().do_GET()

        def _pass_on(self) -> None:
            request = urllib.request.Request(archive + self.path, headers={"Accept": self.headers["Accept"] or "*/*"})
            with urllib.request.urlopen(request, timeout=60) as told:
                body, kind = told.read(), told.headers["Content-Type"]
            if "/metadata" in self.path:
                body = json.dumps(
                    [{k: v for k, v in one.items() if k != "00281056"} for one in json.loads(body)]
                ).encode()
            self._answer(body, kind)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads them."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made
