"""Phantoms of several sites: each planted shift does what its unit says, and nothing else changes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import fft

from imaging.commands import main
from imaging.data.images import read_image
from imaging.data.manifest import read_manifest
from imaging.errors import ConfigError
from imaging.modalities import sited_kind
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.modalities.prostate.recipe import ProstateRecipe
from imaging.modalities.ultrasound.recipe import UltrasoundRecipe
from imaging.phantoms.mammography.sites import MammographyAcquisition, view_of
from imaging.phantoms.mammography.tissue import BreastScene, cast
from imaging.phantoms.mammography.view import exposed, stored, truth
from imaging.phantoms.prostate.signal import lesion_labels
from imaging.phantoms.prostate.sites import ProstateAcquisition, pelvis_of, slab_of, volumes_of
from imaging.phantoms.sites import PhantomCase, SitedKind, SiteFile, planned, write_sites
from imaging.phantoms.ultrasound.bmode import Sonogram, scan_body
from imaging.phantoms.ultrasound.body import Body
from imaging.phantoms.ultrasound.sites import BModeAcquisition, breast_of, still
from tests.conftest import REPOSITORY

KINDS = ("breast", "mammography", "prostate")
SHIPPED = sorted((REPOSITORY / "configs" / "phantoms").glob("*.yaml"))
# Patient 0 of seed 5 has a lesion of every kind on her first image.
WITH_LESION = PhantomCase("case-1", "S1", "north", "train", 500_015, 500_015, 0, has_lesion=True, lesion_size=1.0)
WITHOUT = replace(WITH_LESION, has_lesion=False)

Picture = NDArray[Any]


def seen(kind: str, subject: PhantomCase, acquisition: Any) -> tuple[Picture, Picture]:
    """Everything that is written of a case's images, and its truth."""
    if kind == "breast":
        picture = still(subject, acquisition)
        return picture.pixels, picture.truth
    if kind == "mammography":
        view = view_of(subject, acquisition)
        return stored(view), np.stack([lesion.mask for lesion in truth(view)])
    return np.stack(list(volumes_of(subject, acquisition).values())), lesion_labels(
        pelvis_of(subject), slab_of(subject)
    )


def knobs() -> list[tuple[str, str, float]]:
    """Every value of every acquisition at the bound that is farther from its reference."""
    found = []
    for kind in KINDS:
        reference = sited_kind(kind).acquisition()
        for one in fields(reference):
            usual, ends = getattr(reference, one.name), (one.metadata["low"], one.metadata["high"])
            found.append((kind, one.name, max(ends, key=lambda end: abs(end - usual))))
    return found


@pytest.mark.parametrize(("kind", "name", "value"), knobs())
def test_a_shift_changes_the_picture_and_never_the_truth(kind: str, name: str, value: float) -> None:
    reference = sited_kind(kind).acquisition()
    usual, outlines = seen(kind, WITH_LESION, reference)
    shifted, same = seen(kind, WITH_LESION, replace(reference, **{name: value}))
    assert outlines.any()
    np.testing.assert_array_equal(outlines, same)
    assert shifted.shape == usual.shape
    assert not np.array_equal(shifted, usual)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_at_strength_0_all_sites_acquire_alike(path: Path) -> None:
    file = SiteFile.read(path)
    kind = sited_kind(file.kind)
    none, half, whole = (file.acquisitions(kind, strength) for strength in (0.0, 0.5, 1.0))
    assert set(none.values()) == {kind.acquisition()}
    assert len(set(whole.values())) == len(file.sites) == 4
    for site, values in file.sites.items():
        for name, value in values.items():
            assert getattr(whole[site], name) == value
            assert getattr(half[site], name) == pytest.approx((value + getattr(kind.acquisition(), name)) / 2)


# Ultrasound: 60 dB lie on 255 greys at the reference.


def greys(**values: float) -> Sonogram:
    return still(WITHOUT, replace(BModeAcquisition(), **values))


def inner(*pictures: Sonogram) -> Picture:
    """Where none of the pictures is black or white, bool (row, column)."""
    return np.all([(picture.pixels > 3) & (picture.pixels < 250) for picture in pictures], axis=0)


def test_gain_is_in_decibels() -> None:
    usual, louder = greys(), greys(gain_db=6.0)
    change = louder.pixels.astype(float) - usual.pixels
    np.testing.assert_allclose(change[inner(usual, louder)], 255 * 6 / 60, atol=1.0)


def test_dynamic_range_is_in_decibels_below_white() -> None:
    usual, narrow = greys(), greys(range_db=45.0)
    where = inner(usual, narrow)
    below_white = (255.0 - usual.pixels) * 60 / 255, (255.0 - narrow.pixels) * 45 / 255
    np.testing.assert_allclose(below_white[0][where], below_white[1][where], atol=0.25)


def test_time_gain_grows_with_depth() -> None:
    usual, tilted = greys(), greys(tgc_db_per_cm=-2.0)
    where = inner(usual, tilted)
    depth_cm = np.broadcast_to((np.arange(128)[:, None] + 0.5) * 0.3125 / 10, where.shape)
    change = tilted.pixels.astype(float) - usual.pixels
    np.testing.assert_allclose(change[where], (-2.0 * depth_cm * 255 / 60)[where], atol=1.0)


def test_the_grey_map_is_a_monotone_curve() -> None:
    usual = greys()
    level = usual.pixels / 255.0
    np.testing.assert_allclose(greys(map_gamma=2.0).pixels, 255 * level**2, atol=1.6)
    np.testing.assert_allclose(greys(map_s_curve=1.0).pixels, 255 * level**2 * (3 - 2 * level), atol=1.6)
    by_grey = greys(map_gamma=2.2, map_s_curve=-1.0).pixels.reshape(-1)[np.argsort(usual.pixels, axis=None)]
    assert np.all(np.diff(np.maximum.accumulate(by_grey).astype(int) - by_grey) <= 2)
    assert np.max(np.maximum.accumulate(by_grey).astype(int) - by_grey) <= 2  # within the rounding of one grey


def homogeneous(**values: float) -> Sonogram:
    """Speckle alone, with little noise."""
    scan = replace(BModeAcquisition(), noise_db=-100.0).scan
    (picture,) = scan_body(replace(scan, **values) if values else scan, Body("homogeneous", 3))
    return picture


def speckle_mm(acquisition: BModeAcquisition) -> tuple[float, float]:
    """Where the autocorrelation of the echo's power falls to a half: along the beam and across it, mm."""
    scan = replace(acquisition, noise_db=-100.0).scan
    (picture,) = scan_body(scan, Body("homogeneous", 3))
    power = picture.envelope**2
    middle = power[power.shape[0] // 3 : power.shape[0] // 2]  # near the focus
    spectrum = np.abs(fft.fft2(middle - middle.mean())) ** 2
    correlation = np.real(fft.ifft2(spectrum))
    correlation /= correlation[0, 0]
    steps = scan.probe.pulse_sigma_mm * 0.9, 1.54 / scan.probe.frequency_mhz * scan.probe.f_number * 0.3
    along, across = (
        float(np.interp(-0.5, -profile, np.arange(6)) * step)
        for profile, step in zip((correlation[:6, 0], correlation[0, :6]), steps, strict=True)
    )
    return along, across


def test_speckle_follows_bandwidth_aperture_and_frequency() -> None:
    along, across = speckle_mm(BModeAcquisition())
    longer = speckle_mm(BModeAcquisition(bandwidth=0.2))
    wider = speckle_mm(BModeAcquisition(f_number=4.8))
    coarser = speckle_mm(BModeAcquisition(frequency_mhz=5.0))
    assert longer[0] / along == pytest.approx(2.0, rel=0.1)
    assert longer[1] / across == pytest.approx(1.0, rel=0.1)
    assert wider[1] / across == pytest.approx(2.0, rel=0.2)  # less defocused, too
    assert wider[0] / along == pytest.approx(1.0, rel=0.1)
    assert coarser[0] / along == pytest.approx(1.5, rel=0.1)
    assert coarser[1] / across == pytest.approx(1.5, rel=0.15)


def test_persistence_averages_frames_with_other_speckle() -> None:
    contrasts = []
    for persistence in (0.0, 1.0):
        envelope = homogeneous(persistence=persistence).envelope
        contrasts.append(envelope.std() / envelope.mean())
    assert contrasts[0] == pytest.approx(0.523, abs=0.03)  # fully developed speckle: sqrt(4 / pi - 1)
    assert contrasts[1] == pytest.approx(0.523 / np.sqrt(3), abs=0.03)


def test_electronic_noise_is_in_decibels() -> None:
    power = [float((homogeneous(noise_db=level).envelope[-150:] ** 2).mean()) for level in (-100.0, -45.0, -48.0)]
    assert (power[1] - power[0]) / (power[2] - power[0]) == pytest.approx(10**0.3, rel=0.1)


# Mammography.


def shot(**values: float) -> Any:
    return exposed(view_of(WITHOUT, replace(MammographyAcquisition(), **values)))


def test_dose_sets_quantum_noise() -> None:
    plenty, few = shot(photons_per_mm2=5e5), shot(photons_per_mm2=500.0)
    expected = plenty.exposure * 500 / 5e5  # photons per pixel
    inside = plenty.breast & (expected < 5 * np.median(expected[plenty.breast]))
    noise = ((few.exposure - expected) / np.sqrt(expected))[inside]
    assert noise.std() == pytest.approx(1.0, abs=0.05)


def test_blur_is_a_gaussian_of_the_stated_width() -> None:
    plain, soft = (shot(blur_mm=b).exposure for b in (0.0, 2.0))
    rows = slice(20, 220)
    profile = [p[rows, 4:60] - p[rows, 4:60].mean() for p in (plain, soft)]
    window = np.outer(np.hanning(200), np.hanning(56))
    spectra = [np.abs(fft.fft2(p * window)) ** 2 for p in profile]
    frequency = np.hypot(fft.fftfreq(200, 1.2)[:, None], fft.fftfreq(56, 1.2)[None, :])  # per mm
    ring = (frequency > 0.09) & (frequency < 0.11)
    ratio = np.sqrt(spectra[1][ring].sum() / spectra[0][ring].sum())
    assert ratio == pytest.approx(np.exp(-2 * np.pi**2 * 2.0**2 * 0.1**2), rel=0.15)


def test_squeeze_is_a_factor_on_thickness() -> None:
    view = view_of(WITHOUT, MammographyAcquisition())
    usual = BreastScene(view.breast, view.projection, view.field)
    thick, thin = cast(usual), cast(replace(usual, squeeze=0.8))
    np.testing.assert_array_equal(thick.breast, thin.breast)
    nipple = round(view.breast.nipple_depth_mm / 1.2)
    middle = slice(90, 130), slice(5, nipple - 40)
    assert thin.attenuation[middle].mean() / thick.attenuation[middle].mean() == pytest.approx(0.8, abs=0.02)


def test_the_processing_curve_is_monotone() -> None:
    usual, curved = shot().processed, shot(map_gamma=2.5, map_s_curve=0.8).processed
    scaled = np.clip((usual - 0.12) / 0.88, 0, 1)
    dense = (usual > 0.2) & (usual < 0.95) & (curved > 0.125)
    graded = scaled**2.5
    graded = graded + 0.8 * (graded**2 * (3 - 2 * graded) - graded)
    np.testing.assert_allclose(curved[dense], (0.12 + 0.88 * graded)[dense], atol=1e-9)


def test_lossy_coding_rounds_cosine_coefficients() -> None:
    coded = shot(cosine_step=0.1).processed[:232, :192].reshape(29, 8, 24, 8)
    steps = fft.dctn(coded, axes=(1, 3), norm="ortho") / 0.1
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)


def test_sharpening_raises_detail_and_equalising_the_periphery() -> None:
    def detail(picture: Picture) -> float:
        return float(np.abs(np.diff(picture[60:180, 5:60], axis=0)).mean())

    assert detail(shot(sharpen=1.5).processed) > 1.2 * detail(shot(sharpen=0.0).processed)
    rim = shot().breast & ~(np.roll(shot().breast, -12, axis=1))  # the 14 mm nearest to the nipple's side
    assert shot(equalise=1.0).processed[rim].mean() > 1.1 * shot(equalise=0.0).processed[rim].mean()


# Prostate MRI: without noise, tissue follows its equations.


def quiet(**values: float) -> dict[str, Picture]:
    return volumes_of(WITHOUT, replace(ProstateAcquisition(noise=0.0), **values))


def peripheral() -> tuple[Picture, Any]:
    """Voxels (slice, row, column) wholly in the peripheral zone, and its tissue."""
    pelvis, slab = pelvis_of(WITHOUT), slab_of(WITHOUT)
    points = np.stack([slab.points_mm(number) for number in range(slab.shape[0])], axis=1)
    deep = pelvis.gland.distance(points) < -3.5
    apart = pelvis.transition_zone.distance(points) > 3.5
    return deep & apart, pelvis.peripheral


def test_scale_is_a_factor() -> None:
    usual, scaled = (volumes_of(WITHOUT, ProstateAcquisition(scale=s)) for s in (1.0, 2.5))
    for name, factor in (("t2w", 2.5), ("high_b", 2.5), ("adc", 1.0)):
        np.testing.assert_allclose(scaled[name], factor * usual[name], rtol=1e-12)


def test_bias_is_the_ratio_of_the_ends_and_1_in_the_middle() -> None:
    ratio = quiet(bias=4.0)["t2w"] / np.maximum(quiet()["t2w"], 1e-9)
    slab = slab_of(WITHOUT)
    points = np.stack([slab.points_mm(number) for number in range(slab.shape[0])], axis=1)
    x, y, z = (points - np.array(pelvis_of(WITHOUT).centre_mm)[:, None, None, None]) / 36
    lit = quiet()["t2w"] > 20
    np.testing.assert_allclose(ratio[lit], 4.0 ** (0.5 * np.tanh(0.4 * x + y + 0.25 * z))[lit], rtol=1e-9)
    assert 2.5 < ratio[lit].max() / ratio[lit].min() < 4.0


def test_echo_time_decays_by_t2() -> None:
    where, tissue = peripheral()
    early, late = quiet(echo_ms=80.0)["t2w"][where], quiet(echo_ms=120.0)["t2w"][where]
    np.testing.assert_allclose(late / early, np.exp(-40 / tissue.t2_ms), rtol=1e-6)


def test_high_b_decays_by_the_adc_and_the_adc_stays() -> None:
    where, tissue = peripheral()
    low, high = quiet(high_b=800.0), quiet(high_b=1600.0)
    np.testing.assert_allclose(high["high_b"][where] / low["high_b"][where], np.exp(-800e-6 * tissue.adc), rtol=1e-6)
    np.testing.assert_allclose(low["adc"][where], tissue.adc, rtol=1e-6)
    np.testing.assert_allclose(high["adc"][where], tissue.adc, rtol=1e-6)


def test_gradients_change_b_by_their_square() -> None:
    where, tissue = peripheral()
    np.testing.assert_allclose(quiet(gradient_percent=10.0)["adc"][where], 1.21 * tissue.adc, rtol=1e-6)


def test_noise_is_the_standard_deviation_of_a_channel() -> None:
    clean, noisy = quiet()["t2w"], quiet(noise=0.02)["t2w"]
    bright = clean > 200  # ten standard deviations: Rician is Gaussian
    assert (noisy - clean)[bright].std() == pytest.approx(20.0, rel=0.03)


def test_resolution_leaves_no_frequency_beyond_its_pixel() -> None:
    spectrum = np.abs(np.fft.fft2(quiet(acquired_mm=3.0)["t2w"]))
    beyond = np.abs(np.fft.fftfreq(48, 1.5)) > 0.5 / 3.0
    assert spectrum[:, beyond].max() < 0.05 * spectrum.max()
    usual = np.abs(np.fft.fft2(quiet()["t2w"]))
    assert spectrum[:, beyond].sum() < 0.1 * usual[:, beyond].sum()


# Sets.


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_is_read_and_written_alike_again(kind: str, tmp_path: Path) -> None:
    file = SiteFile(kind, {"north": {}, "south": {}})
    done: list[int] = []
    manifest = write_sites(tmp_path / "one", sited_kind(kind), file, 1.0, 3, 5, lambda number, _: done.append(number))
    write_sites(tmp_path / "two", sited_kind(kind), file, 1.0, 3, 5)
    assert done == [1, 2, 3]
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    cases = read_manifest(manifest)
    assert [case.site for case in cases] == ["north", "south", "north"]
    image = read_image(cases[0].image, cases[0].site)
    recipe: Any = {
        "breast": UltrasoundRecipe(side=64),
        "mammography": MammographyRecipe(spacing_mm=2.0, rows=128, columns=64),
        "prostate": ProstateRecipe(roles=("T2W", "ADC", "high b"), spacing_mm=(4.0, 1.5, 1.5), shape=(12, 48, 48)),
    }[kind]
    beside = {role: read_image(path, cases[0].site) for role, path in cases[0].beside.items()}
    model_input = recipe.harmonise(recipe.tissue(replace(image, beside=beside)))
    assert bool(np.isfinite(model_input.numpy()).all())
    assert model_input.numpy().std() > 0.05


def test_the_twin_shows_the_same_patients_without_the_shift(tmp_path: Path) -> None:
    sites = tmp_path / "sites.yaml"
    sites.write_text("kind: breast\nsites:\n  north: {}\n  south: {gain_db: 9.0}\n", encoding="utf-8")
    for name, strength in (("shifted", ()), ("twin", ("--strength", "0"))):
        words = ["phantoms", "training", str(tmp_path / name), "--sites", str(sites), *strength, "--cases", "4"]
        assert main(words) == 0
    shifted, twin = digest(tmp_path / "shifted"), digest(tmp_path / "twin")
    differ = {name for name in shifted if shifted[name] != twin[name]}
    assert differ == {"images/south/case-00002.dcm", "images/south/case-00004.dcm", "planted.json"}
    told = json.loads((tmp_path / "shifted" / "planted.json").read_text())
    assert told["sites"]["south"]["acquisition"]["gain_db"] == 9.0
    assert told["units"]["gain_db"] == "dB"
    told = json.loads((tmp_path / "twin" / "planted.json").read_text())
    assert (told["strength"], told["sites"]["south"]["acquisition"]) == (0.0, told["reference"])


def test_patients_have_one_split_and_some_several_images() -> None:
    file = SiteFile("breast", {"north": {}, "south": {}})
    subjects = planned(file, sited_kind("breast"), 84, 5)
    of_patient = defaultdict(list)
    for subject in subjects:
        of_patient[subject.patient_id].append(subject)
    assert {len(images) for images in of_patient.values()} == {1, 2}
    for images in of_patient.values():
        assert len({(one.site, one.split, one.has_lesion) for one in images}) == 1
        assert len({one.seed for one in images}) == len(images)
    for site in file.sites:
        assert {one.split for one in subjects if one.site == site} == {"train", "val", "test"}
    first, second = (view_of(of_patient["S0005-00000"][number], MammographyAcquisition()) for number in (0, 1))
    assert (first.projection, second.projection) == ("CC", "MLO")
    assert (first.breast, first.lesions) == (second.breast, second.lesions)


def test_label_shift_moves_prevalence_and_size_at_its_site_alone() -> None:
    plain = SiteFile("breast", {"north": {}, "south": {}})
    shifted = replace(plain, label_shift={"south": {"prevalence": 0.9, "lesion_size": 1.3}})
    kind = sited_kind("breast")
    before, after = planned(plain, kind, 400, 5), planned(shifted, kind, 400, 5)

    def share(subjects: list[PhantomCase], site: str) -> float:
        return float(np.mean([one.has_lesion for one in subjects if one.site == site]))

    assert [share(before, site) for site in plain.sites] == pytest.approx([0.6, 0.6], abs=0.02)
    assert share(after, "south") == pytest.approx(0.9, abs=0.02)
    assert [one for one in before if one.site == "north"] == [one for one in after if one.site == "north"]
    both = [(a, b) for a, b in zip(before, after, strict=True) if a.site == "south" and a.has_lesion]
    assert all(b.has_lesion for _, b in both)  # a higher prevalence takes no lesion away
    for one, other in both[:3]:
        (small,), (large,) = breast_of(one).body.lesions, breast_of(other).body.lesions
        assert large == replace(small, width_mm=1.3 * small.width_mm, height_mm=pytest.approx(1.3 * small.height_mm))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: breast\n", "found \\['kind'\\]; needed are kind and sites"),
        ("kind: breast\nsites: {}\n", "sites: found none"),
        ("kind: breast\nsites: [north]\n", "allowed is a table of values"),
        ("kind: breast\nsites: {north: {gain_db: loud}}\n", "sites, north, gain_db: found 'loud'; allowed is a number"),
        ("kind: breast\nsites: {north: {}}\nlabel_shift: {nowhere: {}}\n", "label_shift: found \\['nowhere'\\]"),
        ("kind: breast\nsites: {north: {gain: 3}}\n", "site 'north': 'gain' is unknown; allowed are range_db, gain_db"),
        ("kind: breast\nsites: {north: {gain_db: 99}}\n", "gain_db is 99; allowed is -20 to 20 dB"),
        ("kind: [\n", "cannot be read"),
        ("kind: brain\nsites: {north: {}}\n", "phantoms of kind 'brain' by site: there are none; allowed are breast"),
    ],
)
def test_a_wrong_site_file_says_what_is_allowed(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "sites.yaml"
    path.write_text(text, encoding="utf-8")

    def write() -> None:
        file = SiteFile.read(path)
        write_sites(tmp_path / "out", sited_kind(file.kind), file, 1.0, 2, 5)

    with pytest.raises(ConfigError, match=words):
        write()
    assert not (tmp_path / "out").exists()


def test_a_wrong_strength_or_population_is_refused(tmp_path: Path) -> None:
    file = SiteFile("breast", {"north": {}}, {"north": {"prevalence": 1.5}})
    kind: SitedKind = sited_kind("breast")
    with pytest.raises(ConfigError, match=r"label_shift of site 'north': prevalence is 1\.5; allowed is 0 to 1"):
        write_sites(tmp_path / "out", kind, file, 1.0, 2, 5)
    with pytest.raises(ConfigError, match="strength: found 2; allowed is 0 to 1"):
        write_sites(tmp_path / "out", kind, replace(file, label_shift={}), 2.0, 2, 5)
    with pytest.raises(ConfigError, match="cases: found 0"):
        write_sites(tmp_path / "out", kind, replace(file, label_shift={}), 1.0, 0, 5)


def test_the_command_refuses_what_contradicts_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = ["phantoms", "training", str(tmp_path / "out"), "--cases", "2"]
    assert main([*training, "--strength", "0.5"]) == 2
    assert "--strength: found without --sites" in capsys.readouterr().err
    assert main([*training, "--kind", "prostate", "--sites", str(SHIPPED[0])]) == 2
    assert "says mammography, so leave it out" in capsys.readouterr().err


def test_the_manifest_says_label_and_site(tmp_path: Path) -> None:
    manifest = write_sites(tmp_path / "set", sited_kind("prostate"), SiteFile("prostate", {"north": {}}), 1.0, 4, 5)
    with manifest.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] != "normal" for row in rows] == [
        one.has_lesion for one in planned(SiteFile("prostate", {"north": {}}), sited_kind("prostate"), 4, 5)
    ]
    assert all((tmp_path / "set" / row["image:high b"]).is_file() for row in rows)
