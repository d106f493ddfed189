"""SOP classes of images by what they hold (PS3.4 B.5)."""

from __future__ import annotations

from typing import Final

ULTRASOUND_IMAGES: Final = (
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound Image Storage
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame Image Storage
    "1.2.840.10008.5.1.4.1.1.6",  # retired, single frame
    "1.2.840.10008.5.1.4.1.1.3",  # retired, multi-frame
)
FOR_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.2.1"
TOMOSYNTHESIS: Final = "1.2.840.10008.5.1.4.1.1.13.1.3"
# Digital Mammography and tomosynthesis: classes that hold nothing but breasts.
OF_THE_BREAST: Final = ("1.2.840.10008.5.1.4.1.1.1.2", FOR_PROCESSING, TOMOSYNTHESIS)
# Digital Mammography For Presentation and For Processing, Computed Radiography, Secondary Capture, and the multi-frame
# greyscale word Secondary Capture of film digitisers.
MAMMOGRAMS: Final = (
    "1.2.840.10008.5.1.4.1.1.1.2",
    FOR_PROCESSING,
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.3",
)
SECONDARY_CAPTURES: Final = (
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.7.1",
    "1.2.840.10008.5.1.4.1.1.7.2",
    "1.2.840.10008.5.1.4.1.1.7.3",
    "1.2.840.10008.5.1.4.1.1.7.4",
)
KEY_OBJECT: Final = "1.2.840.10008.5.1.4.1.1.88.59"
# Greyscale, Color, Pseudo-Color and Blending Softcopy Presentation State Storage.
PRESENTATION_STATES: Final = tuple(f"1.2.840.10008.5.1.4.1.1.11.{number}" for number in (1, 2, 3, 4))
MR_IMAGES: Final = (
    "1.2.840.10008.5.1.4.1.1.4",  # MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
    "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
)
# Classes whose references must not carry a frame number (PS3.3 C.17.3, Referenced Frame Number).
STILLS: Final = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.6", *MAMMOGRAMS[:-1])
