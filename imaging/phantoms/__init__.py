"""Physically plausible synthetic studies with vendor behaviour: the samples and the tests come from here.

tissue            what scatters, reflects and absorbs; breast, heart, and a lesion with its outline
head              a fetal head in the uterus, cut in the plane of its circumference
body              anatomy with lesions or a head in it, and the truth about them
ultrasound        `simulate(scan, seed, lesions, head)` → Sonogram: pixels, truth, fan, spacing
planting          a lesion or a head that suits a scan, drawn from a seed
screen            four vendors' screens: layout, text, calipers, Doppler
ultrasound_dicom  `Acquisition` → `dataset`, `truth`, `tissue_mask`, `file_bytes`
media             MR localiser, text report, DICOMDIR
export            `write_export`, `write_training_set`, and what a run over the export must conclude (`EXPECTED`)
"""
