"""Site-aware medical imaging AI: harmonised DICOM in, validated DICOM-SR out.

The tree reads as the data flow (records in brackets)::

    export → dicom.index [Series] → dicom.select [Group] → dicom.read, dicom.exam [Image] → harmonise [MetaTensor]
    → data [Sample] → models inside tasks [Prediction] → extraction [Finding, VolumeRegion] → exam [ExamResult]
    → report (SR, SEG, page)

Every record knows its site, scanner and protocol (`imaging.image.Origin`).
"""

__version__ = "0.1.0"
