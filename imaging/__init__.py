"""Site-aware medical imaging AI: harmonised DICOM in, validated DICOM-SR out.

The tree reads as the data flow (records in brackets)::

    export → dicom.index [Series] → modalities.*.selection [Group] → dicom.pixels, dicom.exam [Image]
    → modalities.*.recipe, harmonise [Tissue, MetaTensor] → models, by way of predictor [Prediction, Detections]
    → extraction [Finding, VolumeRegion] → modalities.*.conclusions, exam [Reading, Conclusion, ExamResult]
    → report [Written, ReadBack: SR, SEG, PDF, page]

    manifest → data [Case, Sample] → models inside tasks → packaging [Package], which the predictor reads
    results and truth → evaluation [EvaluationResult], by site

Every record knows its site, scanner and protocol (`imaging.image.Origin`). docs/architecture.md says more.
"""

__version__ = "0.1.0"
