"""Physically plausible synthetic studies with vendor behaviour: the samples and the tests come from here.

tissue            a body: what scatters, reflects and absorbs, and where a lesion lies
ultrasound        `simulate(scan, seed, lesions)` → Sonogram: pixels, truth, fan, spacing
screen            four vendors' screens: layout, text, calipers, Doppler
ultrasound_dicom  `Acquisition` → `dataset`, `truth`, `tissue_mask`, `file_bytes`
media             MR localiser, text report, DICOMDIR
export            `write_export`, `write_training_set`, and what a run over the export must conclude (`EXPECTED`)
"""
