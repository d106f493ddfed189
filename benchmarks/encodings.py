"""How alike one breast is after harmonising, maker by maker: `python benchmarks/encodings.py [--spacing-mm MM]`.

The same synthetic exam is exported as every maker of the phantoms writes it (encodings that differ in physics, tables,
window, sign and padding), read from bytes and harmonised. Told is the structural similarity (Wang et al., IEEE TIP
2004) of each view to that of the reference maker, 1 for equal pictures. Synthetic: no statement about a product.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch
from monai.metrics import SSIMMetric

from imaging.data.images import read_image
from imaging.modalities.mammography.recipe import MammographyRecipe
from imaging.phantoms.mammography.dicom import mammogram
from imaging.phantoms.mammography.export import MammographyExam, planted
from imaging.phantoms.mammography.makers import MAKERS, MakerName
from imaging.phantoms.ultrasound.dicom import Patient, file_bytes

REFERENCE: MakerName = "hologic"
HEIGHT_MM, WIDTH_MM = 256.0, 179.2


def harmonised(maker: MakerName, seed: int, recipe: MammographyRecipe, folder: Path) -> dict[str, torch.Tensor]:
    """The four views as the network gets them, (1, channel, row, column), by side and projection."""
    exam = MammographyExam(maker, Patient("0001", "Phantom^Encodings"), seed, planted(seed), pitch_mm=recipe.spacing_mm)
    pictures = {}
    for view in exam.views:
        path = folder / f"{maker}-{view.laterality}{view.projection}.dcm"
        path.write_bytes(file_bytes(mammogram(view)))
        tissue = recipe.tissue(read_image(path))
        pictures[f"{view.laterality}{view.projection}"] = recipe.harmonise(tissue).as_tensor()[None]
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--spacing-mm", type=float, default=0.8, help="pixels, also of the harmonised picture")
    args = parser.parse_args()
    rows, columns = (round(length / args.spacing_mm / 64) * 64 for length in (HEIGHT_MM, WIDTH_MM))
    recipe = MammographyRecipe(spacing_mm=args.spacing_mm, rows=rows, columns=columns)
    similarity = SSIMMetric(spatial_dims=2)
    with tempfile.TemporaryDirectory() as place:
        known = harmonised(REFERENCE, args.seed, recipe, Path(place))
        print(f"synthetic exam, {args.spacing_mm} mm, structural similarity to {REFERENCE}")
        print(f"{'maker':<14}{''.join(f'{view:>8}' for view in known)}{'mean':>8}")
        for maker in MAKERS:
            if maker == REFERENCE:
                continue
            found = harmonised(maker, args.seed, recipe, Path(place))
            values = [float(similarity(found[view], picture)) for view, picture in known.items()]
            print(f"{maker:<14}{''.join(f'{v:8.3f}' for v in (*values, statistics.mean(values)))}")


if __name__ == "__main__":
    main()
