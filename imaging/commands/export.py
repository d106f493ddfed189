"""`imaging export`: a package in the form of another toolkit."""

from __future__ import annotations

import argparse
from pathlib import Path

EXAMPLES = """\
examples:
  imaging export onnx data_samples/packages/breast_us --out breast_us.onnx
      the network alone; recipe, temperature and threshold stand in its metadata
  imaging export monai-bundle data_samples/packages/breast_us --out breast_us_bundle
  python -m monai.bundle run --bundle_root breast_us_bundle --config_file breast_us_bundle/configs/inference.json \\
      --images "pictures/*" --output_dir predictions

Both need the extra: pip install 'sitewise-imaging[export]'. The ONNX file is compared with the package on its golden
image before it is written. Neither makes findings or DICOM results: `imaging infer` with the package does.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "export",
        help="write a package as an ONNX file or a MONAI bundle",
        description="A package in the form of another toolkit.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("form", choices=("onnx", "monai-bundle"))
    parser.add_argument("package", type=Path, metavar="PACKAGE", help="a package's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the new file, or the new folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises ImagingError."""
    from imaging.package import load_package

    package = load_package(args.package)
    name = f"{package.name} {package.description.card.version}"
    if args.form == "onnx":
        from imaging.exchange.onnx_file import export_onnx

        apart = export_onnx(package, args.out)
        print(f"{args.out}: {name}; logits of the golden image within {apart:.1g}")
        return 0
    from imaging.exchange.monai_bundle import export_bundle

    export_bundle(package, args.out)
    print(f"{args.out}: {name} as a MONAI bundle; docs/README.md in it says how to run it")
    return 0
