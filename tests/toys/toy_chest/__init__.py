"""Chest radiography, a toy: bright spots on digital radiographs, each measured and told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from imaging.dicom.index import Instance, Series
from imaging.dicom.select import Anatomy, Group, ImageRef, Rejected, Selection, select_images
from imaging.errors import Reason, ReasonCode
from imaging.exam.conclusion import Conclusion, Readings, Terms
from imaging.exam.context import Context
from imaging.exam.result import ExamFinding
from imaging.golden import plane
from imaging.modalities import Modality

if TYPE_CHECKING:
    from imaging.harmonise.recipe import Recipe
    from imaging.image import Array, Image

RADIOGRAPH: Final = "1.2.840.10008.5.1.4.1.1.1.1"  # Digital X-Ray Image Storage - For Presentation
_LEAST_ROWS: Final = 64


class ChestReason(ReasonCode):
    """Why a radiograph was not read."""

    THUMBNAIL = "thumbnail", "a reduced copy of a radiograph, not the radiograph", "Export the original image."


def select(series: Sequence[Series], anatomy: Anatomy | None = None) -> Selection:
    """Every radiograph of the study in full size."""

    def refuse(instance: Instance) -> ReasonCode | None:
        if instance.modality != "DX" or instance.sop_class_uid != RADIOGRAPH:
            return Reason.NO_PACKAGE
        return None if anatomy is None else anatomy.refuse(instance)

    return select_images(series, refuse, _grouped)


def _grouped(admitted: list[Instance]) -> tuple[Group | None, list[Rejected]]:
    whole = [instance for instance in admitted if instance.rows >= _LEAST_ROWS or instance.refusal]
    left: list[Rejected] = [(instance, ChestReason.THUMBNAIL) for instance in admitted if instance not in whole]
    roles = {"frontal": tuple(ImageRef(instance) for instance in whole)}
    return (Group(whole[0].study_uid, "chest", roles) if whole else None), left


def conclude(readings: Readings, terms: Terms, context: Context) -> Conclusion:
    """Each finding with its longest diameter, best score first; their number as a measure of the exam."""
    del terms, context
    found = sorted(readings.findings, key=lambda finding: -finding.score)
    told = tuple(ExamFinding(f, measures={"longest_diameter_mm": f.longest_diameter_mm}) for f in found)
    return Conclusion(told, {"largest_mm": max((f.longest_diameter_mm or 0.0 for f in found), default=None)})


def drawn(rows: int = 128, spots: Sequence[tuple[int, int, int]] = ((40, 80, 10),)) -> Array:
    """uint16 (rows, rows): a chest of one grey with bright discs, each (row, column, radius) in pixels."""
    at = np.mgrid[0:rows, 0:rows]
    pixels = np.full((rows, rows), 1000, dtype=np.uint16)
    for row, column, radius in spots:
        pixels[(at[0] - row) ** 2 + (at[1] - column) ** 2 < radius**2] = 3600
    return pixels


def write_study(path: Path, pixels: Array, number: int) -> None:
    """One radiograph of the toy's only study, 1 mm pixels."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = RADIOGRAPH, f"1.2.826.0.1.5.{number}"
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    image.StudyInstanceUID, image.SeriesInstanceUID, image.Modality = "1.2.826.0.1.5", "1.2.826.0.1.5.0", "DX"
    image.PatientID, image.PatientName, image.BodyPartExamined = "toy", "Toy^Chest", "CHEST"
    image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20260102", "101112", "A1", "1"
    image.SeriesNumber, image.InstanceNumber = 1, number
    image.Rows, image.Columns = pixels.shape
    image.PixelSpacing = [1.0, 1.0]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = pixels.astype("<u2").tobytes()
    image.save_as(path, enforce_file_format=True)


def _recipe() -> type[Recipe]:
    from toy_chest.recipe import ChestRecipe

    return ChestRecipe


def _golden() -> Image:
    return plane((drawn() >> 4).astype(np.uint8), (1.0, 1.0))


CHEST: Final = Modality(
    name="toy_chest",
    acquired_as="DX",
    select=select,
    recipe=_recipe,
    conclude=conclude,
    golden=_golden,
    measures=("longest_diameter",),
    reasons=ChestReason,
)
