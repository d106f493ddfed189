"""An Orthanc archive on the loopback of a network namespace of its own, for the length of one session.

    unshare --net --map-root-user python -m tests.archive FOLDER [COMMAND ...]

Sends every file of FOLDER/sent by C-STORE, and once more by STOW after everything was deleted, and fetches each by
WADO into FOLDER/store and FOLDER/stow. Then COMMAND runs beside the archive, which ends with it. Debian's Orthanc
listens on every address, so it has to live where there is only a loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pydicom

PORT, DICOM_PORT = 18052, 14252
URL = f"http://127.0.0.1:{PORT}"
PLUGINS = "/usr/share/orthanc/plugins"
READY_S = 60.0
BOUNDARY = "sitewise-part"


def configuration(folder: Path) -> dict[str, Any]:
    return {
        "Name": "TESTS",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": PORT,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": "TESTS",
        "DicomPort": DICOM_PORT,
        "DicomAlwaysAllowStore": True,
        "DefaultEncoding": "Utf8",
        "StableAge": 2,
        "Plugins": [f"{PLUGINS}/libOrthancDicomWeb.so", f"{PLUGINS}/libOrthancGdcm.so"],
        "DicomWeb": {
            "Enable": True,
            "Root": "/dicom-web/",
            "EnableWado": True,
            "WadoRoot": "/wado",
            "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }


def ask(path: str, data: bytes | None = None, method: str = "GET", **headers: str) -> bytes:
    request = urllib.request.Request(URL + path, data=data, method=method)
    for name, value in headers.items():
        request.add_header(name.replace("_", "-"), value)
    with urllib.request.urlopen(request, timeout=60) as answer:
        body: bytes = answer.read()
    return body


def wait_until_ready(server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end:
        try:
            ask("/system")
            return
        except OSError as error:
            if server.poll() is not None:
                raise RuntimeError(f"Orthanc ended with {server.returncode}") from error
            time.sleep(0.2)
    raise TimeoutError(f"Orthanc is not ready after {READY_S} s")


def store(files: list[Path]) -> None:
    """C-STORE, proposing only what the files need."""
    command = ["storescu", "-R", "-aec", "TESTS", "127.0.0.1", str(DICOM_PORT), *map(str, files)]
    subprocess.run(command, check=True, timeout=120)


def stow(files: list[Path]) -> None:
    parts = b"".join(
        f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + path.read_bytes() + b"\r\n"
        for path in files
    )
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    ask("/dicom-web/studies", parts + f"--{BOUNDARY}--\r\n".encode(), "POST", Content_Type=kind)


def fetch(path: Path) -> bytes:
    """The file of one instance by WADO-RS, whole and in the transfer syntax that it was stored in."""
    head = pydicom.dcmread(path, stop_before_pixels=True)
    place = f"studies/{head.StudyInstanceUID}/series/{head.SeriesInstanceUID}/instances/{head.SOPInstanceUID}"
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    body = ask(f"/dicom-web/{place}", Accept=accept)
    boundary = body[: body.index(b"\r\n")]
    start = body.index(b"\r\n\r\n") + 4
    return body[start : body.rindex(b"\r\n" + boundary)]


def round_trips(folder: Path) -> None:
    files = sorted((folder / "sent").glob("*.dcm"))
    for way, send in (("store", store), ("stow", stow)):
        for patient in json.loads(ask("/patients")):
            ask(f"/patients/{patient}", method="DELETE")
        send(files)
        (folder / way).mkdir()
        for path in files:
            (folder / way / path.name).write_bytes(fetch(path))


def main(folder: Path, command: list[str]) -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "orthanc.json").write_text(json.dumps(configuration(folder)), encoding="utf-8")
    with (folder / "orthanc.log").open("wb") as log:
        server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            wait_until_ready(server)
            round_trips(folder)
            return subprocess.run(command, check=False).returncode if command else 0
        finally:
            server.terminate()
            server.wait(timeout=30)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
