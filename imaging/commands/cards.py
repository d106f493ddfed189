"""A card to fill in: what people decide about a package, begun by what a training run says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imaging.modalities import Modality, find_modality

_TEMPLATE: Final = """\
# What people decide about a package; everything else comes from the training run.
# Lower case, digits and underscores; no spaces.
name: my_package
# Raise it with every release.
version: "1.0.0"
# Who answers for it.
manufacturer: My hospital
# One sentence: what it finds, in what images, what it learnt from. Say "synthetic" of phantoms.
summary: {summary}. Trained on our own images. Research use only.
# Of the weights, and of the data where that has one.
licence: none
# The procedure that reports name. Codes: value, scheme (SCT for SNOMED CT, DCM for DICOM), meaning.
procedure: {{value: "363679005", scheme: SCT, meaning: Imaging procedure}}
applicability:
  # US, MG or MR, as the recipe reads.
  modality: {modality}
  # Values of BodyPartExamined (0018,0015).
  body_parts: [{body_part}]
# One entry for each output class, in the order of data.labels.
labels:
{labels}
# Smallest finding, in pixels of the model's grid.
least_pixels: {least_pixels}
# Of what the modality can.
measures: [{measures}]
# Share of validation images without a finding that the threshold may mark at most, 0 to 1.
most_marked_empty: 0.1
# Of volumes: every, largest (organs) or candidates (lesions).
parts: {parts}
# Where the network has image classes, their names in the order of data.classes; nothing: true where nothing is found.
{classes}
"""
_LABEL: Final = """\
  - name: {name}
    finding: {{value: "52988006", scheme: SCT, meaning: Lesion}}
    category: {{value: "49755003", scheme: SCT, meaning: Morphologically Abnormal Structure}}
    kind: {{value: "52988006", scheme: SCT, meaning: Lesion}}
    site: {{value: "{site}", scheme: SCT, meaning: {organ}}}"""


@dataclass(frozen=True)
class _Usual:
    """What is usual of a modality: words and codes to begin with."""

    images: str
    body_part: str
    site: str
    organ: str
    least_pixels: int = 40
    parts: str = "every"


_USUAL: Final = {
    "ultrasound": _Usual("B-mode ultrasound, outlined", "BREAST", "76752008", "Breast"),
    "mammography": _Usual("mammograms", "BREAST", "76752008", "Breast", least_pixels=1),
    "prostate": _Usual("prostate MRI", "PROSTATE", "41216001", "Prostate", least_pixels=22, parts="candidates"),
}


def new_card(run: Path | None) -> str:
    """The card as YAML: of a run with its modality, labels and classes, else of an ultrasound.

    Raises ConfigError for a folder that is no run.
    """
    if run is None:
        return card_of(find_modality("ultrasound"), ("lesion",), ())
    from imaging.packaging import trained_for  # it takes its time

    trained = trained_for(run)
    return card_of(trained.modality, trained.labels, trained.classes)


def card_of(modality: Modality, labels: Sequence[str], classes: Sequence[str]) -> str:
    """The card of a network with these labels and image classes."""
    usual = _USUAL.get(modality.name, _USUAL["ultrasound"])
    of_labels = [_LABEL.format(name=json.dumps(name), site=usual.site, organ=usual.organ) for name in labels]
    of_classes = ["classes:", *(f"  - {{name: {json.dumps(name)}}}" for name in classes)]
    none = ["# classes: [{name: normal, nothing: true}, {name: benign}, {name: malignant}]"]
    return _TEMPLATE.format(
        summary=f"Lesions in {usual.images}",
        modality=modality.acquired_as,
        body_part=usual.body_part,
        labels="\n".join(of_labels),
        least_pixels=usual.least_pixels,
        measures=", ".join(modality.measures),
        parts=usual.parts,
        classes="\n".join(of_classes if classes else none),
    )
