"""Measures and ratings in words: what a value is called, and its unit."""

from __future__ import annotations

from imaging.html.markup import Json, amount, element, sentence

_UNITS = {
    "mm": "mm",
    "mm2": "mm²",
    "ml": "ml",
    "px": "px",
    "s": "s",
    "ng_ml": "ng/ml",
    "ng_ml2": "ng/ml²",
    "um2_s": "× 10⁻⁶ mm²/s",
}
_WORDS = {"psa": "PSA", "psa density": "PSA density", "adc mean": "ADC mean", "adc p10": "ADC 10th percentile"}


def measure(name: str, value: float | None) -> tuple[str, object]:
    """`longest_diameter_mm` becomes "Longest diameter" in mm; what cannot be known says so."""
    suffix = max((unit for unit in _UNITS if name.endswith(f"_{unit}")), key=len, default="")
    term = name.removesuffix(f"_{suffix}").replace("_", " ")
    words = _WORDS.get(term, sentence(term))
    if value is None:
        unknown = "uncalibrated: no millimetres" if suffix in {"mm", "mm2"} else "not known"
        return words, element("span", unknown, class_="quiet")
    return words, f"{amount(value)} {_UNITS.get(suffix, '')}".rstrip()


def rating(told: Json) -> tuple[str, object]:
    return sentence(told["name"]), element("b", f"{told['probability'] * 100:.1f} %")
