"""Header index: ours on disposable workers against a pydicom loop, over small MR-like files made for the purpose.

    python benchmarks/index.py --files 5000 --workers 2 [--deploy]

All in one run and by turns, because machines are noisy: read the ratios, not the times. `--deploy` adds the loader
of MONAI Deploy App SDK where it is installed (`pip install monai-deploy-app-sdk==4.0.0` in another environment).
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from imaging.dicom.index import build_index

TEXTS = {
    0x00080008: "ORIGINAL\\PRIMARY\\M\\ND", 0x00080020: "20240102", 0x00080021: "20240102", 0x00080022: "20240102",
    0x00080030: "101112.345000", 0x00080031: "101112.345000", 0x00080032: "101112.345000", 0x00080050: "A100",
    0x00080070: "SIEMENS", 0x00080080: "Hospital", 0x00081030: "Prostate MRI", 0x0008103E: "t2_tse_tra",
    0x00081090: "Skyra", 0x00100010: "Phantom^One", 0x00100020: "P1", 0x00100030: "19500101", 0x00100040: "M",
    0x00180015: "PROSTATE", 0x00180020: "SE", 0x00180021: "SK\\SP\\OSP", 0x00180022: "PFP", 0x00180023: "2D",
    0x00180024: "*tse2d1_25", 0x00180050: "3", 0x00180080: "5660", 0x00180081: "104", 0x00180083: "3",
    0x00180084: "123.2", 0x00180085: "1H", 0x00180086: "1", 0x00180087: "3", 0x00180088: "3", 0x00180089: "246",
    0x00180091: "25", 0x00180093: "80", 0x00180094: "80", 0x00180095: "200", 0x00181000: "45240",
    0x00181020: "syngo MR D13", 0x00181030: "t2_tse_tra", 0x00181251: "Body", 0x00181312: "ROW", 0x00181314: "160",
    0x00185100: "HFS", 0x00200011: "4", 0x00200012: "1", 0x00200032: "-95.1\\-101.2\\-30.4",
    0x00200037: "1\\0\\0\\0\\1\\0", 0x00201041: "-30.4", 0x00280030: "0.5\\0.5", 0x00281050: "300", 0x00281051: "600",
    0x00281055: "Algo1", 0x00321060: "MRI Prostate", 0x00400244: "20240102", 0x00400245: "101000",
    0x00400253: "MR2024", 0x00400254: "MRI Prostate",
}  # fmt: skip


def slice_header(number: int) -> Dataset:
    """The header of one slice as an MR scanner writes it: some 190 elements, 10 sequences, three private blocks."""
    ds = Dataset()
    for tag, text in TEXTS.items():
        ds.add_new(tag, dictionary_VR(tag), text)
    ds.SOPClassUID, ds.SOPInstanceUID = MRImageStorage, f"1.2.826.0.1.3680043.10.1.{number + 1}"
    ds.StudyInstanceUID = f"1.2.826.0.1.3680043.10.2.{number // 500 + 1}"
    ds.SeriesInstanceUID = f"1.2.826.0.1.3680043.10.3.{number // 20 + 1}"
    ds.FrameOfReferenceUID = f"1.2.826.0.1.3680043.10.4.{number // 500 + 1}"
    ds.Modality, ds.InstanceNumber, ds.SpecificCharacterSet = "MR", number % 20 + 1, "ISO_IR 100"
    ds.ReferencedImageSequence = [reference(n) for n in range(3)]
    ds.ReferencedStudySequence, ds.ReferencedPerformedProcedureStepSequence = [reference(8)], [reference(9)]
    ds.SourceImageSequence, ds.ReferencedPatientSequence = [reference(n) for n in range(4)], [reference(7)]
    ds.ProcedureCodeSequence, ds.PerformedProtocolCodeSequence = [code("113725")], [code("113726")]
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP1", "SPS1"
    request.RequestedProcedureCodeSequence, request.ScheduledProtocolCodeSequence = [code("113727")], [code("113728")]
    ds.RequestAttributesSequence = [request]
    for group, elements in ((0x0019, 24), (0x0029, 24), (0x0051, 24)):
        block = ds.private_block(group, f"MAKER {group:04X}", create=True)
        for element in range(8, 8 + elements):
            block.add_new(element, "LO", f"value {element}")
    ds.Rows = ds.Columns = 64
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelData = np.full((64, 64), number % 4096, np.uint16).tobytes()
    return ds


def reference(number: int) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MRImageStorage, f"1.2.826.0.1.3680043.10.9.{number}"
    return item


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "Prostate"
    return item


def make_export(folder: Path, files: int) -> list[Path]:
    paths = []
    for number in range(files):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, MRImageStorage
        ds = slice_header(number)
        meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        path = folder / f"{number // 500:03d}" / f"{number:06d}.dcm"
        path.parent.mkdir(exist_ok=True)
        FileDataset(str(path), ds, file_meta=meta, preamble=bytes(128)).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def pydicom_loop(paths: list[Path]) -> None:
    for path in paths:
        dcmread(path, stop_before_pixels=True)


def deploy_loader(folder: Path) -> None:
    from monai.deploy.core import Fragment
    from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator

    DICOMDataLoaderOperator(Fragment(), input_folder=folder).load_data_to_studies(folder)


def seconds(action: Callable[[], object]) -> tuple[float, float]:
    """(wall, CPU of this process and of its workers, their start included)."""
    begun, used = time.perf_counter(), cpu()
    action()
    return time.perf_counter() - begun, cpu() - used


def cpu() -> float:
    ours, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return ours.ru_utime + ours.ru_stime + theirs.ru_utime + theirs.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deploy", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        paths = make_export(folder, options.files)
        actions: dict[str, Callable[[], object]] = {
            "pydicom.dcmread(stop_before_pixels=True), one process": lambda: pydicom_loop(paths),
            "imaging, this process": lambda: build_index(folder),
            f"imaging, {options.workers} workers": lambda: build_index(folder, workers=options.workers),
        }
        if options.deploy:
            if find_spec("monai.deploy") is None:
                sys.exit("--deploy: monai-deploy-app-sdk is not installed here")
            actions["MONAI Deploy App SDK loader"] = lambda: deploy_loader(folder)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
        for _ in range(options.rounds):
            for name, action in actions.items():
                times[name].append(seconds(action))
    print(f"medians of {options.rounds} rounds{'':38}{'wall ms':>9}{'ratio':>7}{'CPU ms':>9}{'ratio':>7}")
    first = next(iter(times.values()))
    for name, taken in times.items():
        columns = ""
        for kind in (0, 1):
            ratio = median(theirs[kind] / ours[kind] for theirs, ours in zip(first, taken, strict=True))
            columns += f"{median(t[kind] for t in taken) / options.files * 1000:>9.3f}{ratio:>7.1f}"
        print(f"{name:56}{columns}")
    print("On idle cores the wall ratio of n workers tends to n times the CPU ratio; on busy ones read the CPU ratio.")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
