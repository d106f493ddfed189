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

mammography_body           a breast, its lesions and where a view shows them; `plant_breast_lesion`
mammography_tissue         `cast(scene)`: what X-rays meet, as line integrals of attenuation
mammography                `expose(scene, processing)` → Mammogram: detected photons, presented picture, masks
mammography_makers         seven makers of systems and how their files differ
mammography_view           `ViewAcquisition` → `stored` pixels, `truth`, `breast_mask`, `nipple`
mammography_dicom          `mammogram(view)`: Digital Mammography X-Ray Image, For Presentation and For Processing
mammography_tomosynthesis  `volume(view)`: a small Breast Tomosynthesis Image
lossless_jpeg              the coding of many mammograms, with bytes that depend on no installed encoder
mammography_export         `MammographyExam`, `write_samples`, `write_training_set`

prostate_anatomy   a male pelvis as closed surfaces in patient space, `ProstateLesion`
prostate_planting  a lesion that suits a prostate, drawn from a seed
prostate_signal    `sample(pelvis, slab, contrasts)`: T2W, diffusion, contrast medium; coil, noise, ADC, label maps
prostate_makers    four makers of MR scanners and how their files differ
prostate_study     `ProstateStudy`: whose, on which scanner, where its slices lie
prostate_series    `series_of(study)`: the series of a scanner and their stored values
prostate_header    what all MR objects of a study share
prostate_enhanced  a series as Enhanced MR
prostate_dicom     `objects(study)`: MR Image, mosaic and Enhanced MR
prostate_export    `write_samples`, `write_training_set`
"""

DEFAULT_SEED = 20
