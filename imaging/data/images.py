"""DICOM, NIfTI, MHA, NRRD and pictures → the same Image: array (channel, [slice,] row, column), affine in that order.

Conversions happen here and nowhere else. NIfTI arrays are (i, j, k) with an affine to RAS millimetres; MetaImage and
NRRD indices are (x, y, z) with a direction to LPS millimetres, and SimpleITK hands the array over as (z, y, x). Both
become [slice, row, column] = (k, j, i) in `patient_ras`. A picture, a 2-D file or one of a single slice is an
`image_plane`: no patient orientation, but what its file states is kept to be compared (`same_place`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from imaging.data.pictures import PICTURES, finite, read_picture
from imaging.dicom.index import Instance, build_index
from imaging.dicom.pixels.read import read_frames
from imaging.dicom.pixels.volume import Stack, find_stacks
from imaging.dicom.select import ImageRef
from imaging.errors import GeometryError, ImagingError, InputError, Reason
from imaging.image import LPS_TO_RAS, UNKNOWN, Array, Channels, Floats, Grid, Image, Origin
from imaging.table import tell

# Of a voxel: header decimals and float32 affines move centres less than this across a whole volume.
SAME_PLACE: Final = 0.01
_SAME_SPACING: Final = 0.01
_TO_MM: Final = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_NRRD_PLACES: Final = ("space", "space dimension")


def read_image(
    path: Path, site: str | None = None, spacing_mm: tuple[float, float] | None = None, frame: int | None = None
) -> Image:
    """The image of a file, or the volume of a folder that holds one DICOM series.

    `spacing_mm` (row step, column step) calibrates a picture, or a 2-D file that states no unit; any other file has its
    own, which wins over another one, and that is told. `frame` (from 1) picks a frame of a multi-frame DICOM file;
    without it the file must be one image or one volume. `refs` is empty where the format has no UIDs. Raises InputError
    for what is missing, unreadable or more than one image.
    """
    name = path.name.lower()
    if not path.exists():
        raise InputError(f"image {path.name}: there is no such file or folder", Reason.CONFIG_INVALID)
    if path.is_dir():
        return _dicom_folder(path, site)
    reader = next((read for ending, read in _READERS.items() if name.endswith(ending)), None)
    if reader is not None and frame is not None:
        raise InputError(f"image {path.name}: frame {frame} was asked for; only DICOM has frames", Reason.GEOMETRY)
    try:
        image = reader(path, Origin(site=site or UNKNOWN), spacing_mm) if reader else _dicom_file(path, site, frame)
    except GeometryError as error:
        raise (
            error if path.name in str(error) else GeometryError(f"image {path.name}: {error}", error.reason)
        ) from error
    _tell_spacing(path, image.source_grid, spacing_mm)
    return image


def reorient(array: Array, own: Grid, target: Grid) -> Array | None:
    """The array of `own` in the target's axis order, where both grids have the same voxel centres; else None.

    Exact: axes are exchanged and turned round, no value is made up. Raises GeometryError across frames.
    """
    matrix = target.index_map(own)
    linear, offset = np.rint(matrix[:-1, :-1]), np.rint(matrix[:-1, -1])
    last = np.asarray(target.shape) - 1
    ends = np.stack(np.meshgrid(*[(0, n) for n in last], indexing="ij"), axis=-1).reshape(-1, len(last))
    whole = ends @ linear.T + offset
    if np.abs(ends @ matrix[:-1, :-1].T + matrix[:-1, -1] - whole).max() > SAME_PLACE:
        return None
    turns = np.abs(linear)
    if not (np.all(turns.sum(axis=0) == 1) and np.all(turns.sum(axis=1) == 1)):
        return None
    if np.any(whole.min(axis=0) != 0) or np.any(whole.max(axis=0) != np.asarray(own.shape) - 1):
        return None
    order = turns.argmax(axis=0)
    steps = tuple(slice(None, None, int(linear[axis, k])) for k, axis in enumerate(order))
    return array.transpose(order)[steps]


def same_place(first: Floats | None, second: Floats | None, shape: tuple[int, ...]) -> bool:
    """Whether two planes (row, column) of this shape lie where their files state; one that states nothing may lie
    anywhere.

    Both are affines of (column, row, 0) to RAS millimetres.
    """
    if first is None or second is None:
        return True
    ends = np.array([(x, y, 0, 1) for x in (0, shape[1] - 1) for y in (0, shape[0] - 1)], dtype=np.float64)
    apart = float(np.abs(ends @ (first - second).T).max())
    return apart <= SAME_PLACE * float(np.linalg.norm(first[:3, 0]))


def describe(grid: Grid) -> str:
    """A grid in words for an error: shape, spacing, the world position of its first voxel centre, frame."""
    shape = " × ".join(map(str, grid.shape))
    steps = " × ".join(f"{s:.6g}" for s in grid.spacing)
    origin = ", ".join(f"{v:.6g}" for v in grid.affine[:-1, -1])
    return f"{shape} voxels of {steps} {grid.unit} from ({origin}) in {grid.frame}"


def _dicom_folder(path: Path, site: str | None) -> Image:
    """The one volume of a folder, or its one image."""
    series = build_index(path, site).series
    if len(series) != 1:
        raise InputError(f"image {path.name}: found {len(series)} DICOM series; allowed is one", Reason.NOT_AN_IMAGE)
    if len(series[0].instances) == 1:
        return _dicom_instance(series[0].instances[0], None)
    return _one_volume(path.name, find_stacks(series[0].instances))


def _dicom_file(path: Path, site: str | None, frame: int | None) -> Image:
    index = build_index(path, site)
    if not index.series:
        reason = index.files[path.name].reason or Reason.NOT_AN_IMAGE
        if reason is Reason.NOT_DICOM:
            raise InputError(
                f"image {path.name}: found a file that is not DICOM and has no known ending; read are DICOM and "
                f"{', '.join(READ)}",
                reason,
            )
        raise InputError(f"image {path.name}: {reason.meaning}", reason)
    return _dicom_instance(index.series[0].instances[0], frame)


def _dicom_instance(instance: Instance, frame: int | None) -> Image:
    """One frame as an image plane; without a frame number the volume that the object is, or its single frame."""
    count = instance.frames or 1
    if frame is None:
        found = find_stacks([instance])
        if any(isinstance(one, Stack) for one in found):
            return _one_volume(instance.name, found)
        if count > 1:
            raise InputError(
                f"image {instance.name}: found {count} frames that are no volume; name a frame, 1 to {count}",
                Reason.GEOMETRY,
            )
    elif not 1 <= frame <= count:
        raise InputError(f"image {instance.name}: frame {frame}; allowed are 1 to {count}", Reason.GEOMETRY)
    _, image = next(islice(read_frames(ImageRef(instance)), (frame or 1) - 1, None))
    if isinstance(image, ImagingError):
        raise image
    return image


def _one_volume(name: str, found: list[Stack | ImagingError]) -> Image:
    stacks = [one for one in found if isinstance(one, Stack)]
    for error in found:
        if isinstance(error, ImagingError):
            raise error
    if len(stacks) != 1:
        told = "; ".join(str(stack.facts) for stack in stacks)
        raise InputError(f"image {name}: found {len(stacks)} volumes ({told}); allowed is one", Reason.GEOMETRY)
    return stacks[0].read()


def _nifti(path: Path, origin: Origin, spacing_mm: tuple[float, float] | None) -> Image:
    import nibabel as nib  # here, because most runs read DICOM only
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        stored = nib.load(path)
        values = np.asarray(stored.dataobj)
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError, OverflowError, zlib.error) as error:
        raise _unreadable(path, error) from error
    while values.ndim > 2 and values.shape[-1] == 1:
        values = values[..., 0]
    _check_values(path, values)
    scale = _TO_MM.get(stored.header.get_xyzt_units()[0])
    sform, qform = (int(stored.header[key]) for key in ("sform_code", "qform_code"))
    affine = np.asarray(stored.affine, dtype=np.float64)
    if values.ndim == 2:
        steps = [float(z) * (scale or 1.0) for z in stored.header.get_zooms()[:2]]
        own = (steps[1], steps[0]) if scale else None
        place = np.diag([scale or 1.0] * 3 + [1.0]) @ affine if sform or qform else None
        return _plane(path, values.T[None], origin, own or spacing_mm, place)
    if not sform and not qform:
        raise InputError(
            f"image {path.name}: sform_code and qform_code are 0, so nothing says where the patient is; write the "
            "affine with a code of 1 or more",
            Reason.GEOMETRY,
        )
    notes: tuple[str, ...] = ()
    if sform and qform and not np.allclose(stored.get_qform(), affine, atol=0.01):
        notes = ("sform and qform differ; the sform was used",)
        tell([f"image {path.name}: {notes[0]}"])
    return _volume(values.T, np.diag([scale or 1.0] * 3 + [1.0]) @ affine, origin, notes)


def _metaimage(path: Path, origin: Origin, spacing_mm: tuple[float, float] | None) -> Image:
    del spacing_mm  # its own wins
    return _by_itk(path, "MetaImageIO", origin)


def _nrrd(path: Path, origin: Origin, spacing_mm: tuple[float, float] | None) -> Image:
    """NRRD, of which `.seg.nrrd` is a label map in one layer. Raises InputError where no space is stated."""
    image = _by_itk(path, "NrrdImageIO", origin)
    fields = _nrrd_fields(path)
    if image.grid.is_volume and not fields & set(_NRRD_PLACES):
        raise InputError(
            f"image {path.name}: its header has no 'space', so nothing says where the patient is; write it with its "
            "space directions",
            Reason.GEOMETRY,
        )
    if not image.grid.is_volume and not fields & {"spacings", "space directions"}:
        return _plane(path, image.array, origin, spacing_mm)
    return image


def _nrrd_fields(path: Path) -> set[str]:
    """The names of the fields of a NRRD header, which ends at the first empty line."""
    head = path.read_bytes()[:65536].partition(b"\n\n")[0].decode("ascii", "replace")
    return {line.partition(":")[0].strip().lower() for line in head.splitlines() if ":" in line and line[0] != "#"}


def _by_itk(path: Path, reader: str, origin: Origin) -> Image:
    import SimpleITK as sitk  # noqa: N813  # its own name for itself

    try:
        stored = sitk.ReadImage(str(path), imageIO=reader)
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    values: Array = sitk.GetArrayFromImage(stored)
    dims, samples = stored.GetDimension(), stored.GetNumberOfComponentsPerPixel()
    spacing = stored.GetSpacing()
    lps = np.eye(4)
    if dims in (2, 3):
        lps[:dims, :dims] = np.array(stored.GetDirection()).reshape(dims, dims) * spacing
        lps[:dims, 3] = stored.GetOrigin()
    if dims == 3 and samples == 1 and len(values) == 1:
        values, dims = values[0], 2
    if dims == 2:
        array = np.moveaxis(values, -1, 0) if samples > 1 else values[None]
        _check_values(path, array[0])
        return _plane(path, array, origin, (spacing[1], spacing[0]), LPS_TO_RAS @ lps)
    _check_values(path, values)
    return _volume(values, LPS_TO_RAS @ lps, origin)


def _picture(path: Path, origin: Origin, spacing_mm: tuple[float, float] | None) -> Image:
    values = read_picture(path)
    return _plane(path, np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None], origin, spacing_mm)


def _plane(
    path: Path,
    array: Array,
    origin: Origin,
    steps: tuple[float, float] | None,
    stated: Floats | None = None,
) -> Image:
    """A picture (channel, row, column) in millimetres by `steps`, else in pixels."""
    if len(array) not in (1, 3):
        raise InputError(f"image {path.name}: found {len(array)} channels; allowed 1 or 3", Reason.UNSUPPORTED_PIXELS)
    channels: Channels = "rgb" if len(array) == 3 else "luminance"
    rows, columns = array.shape[1:]
    if steps is None:
        grid, notes = Grid.plane(rows, columns), ("Uncalibrated: no millimetres can be given",)
        return Image(array, grid, grid, (), origin, channels, notes=notes, stated=stated)
    if not all(np.isfinite(step) and step > 0 for step in steps):
        raise InputError(f"image {path.name}: spacing {steps} mm; allowed are positive steps", Reason.GEOMETRY)
    grid = Grid.plane(rows, columns, *steps, unit="mm")
    return Image(array, grid, grid, (), origin, channels, stated=stated)


def _volume(array: Array, affine: Floats, origin: Origin, notes: tuple[str, ...] = ()) -> Image:
    """Array (k, j, i) with an affine of (i, j, k) to RAS millimetres, as an Image."""
    turned = affine[:, [2, 1, 0, 3]]
    grid = Grid(array.shape, turned, "patient_ras")
    return Image(array[None], grid, grid, (), origin, notes=notes)


def _check_values(path: Path, values: Array) -> None:
    if values.ndim not in (2, 3) or values.dtype.names or values.dtype.kind not in "uifb" or not values.size:
        raise InputError(
            f"image {path.name}: found {values.dtype} of shape {values.shape}; allowed are 2 or 3 axes of numbers; "
            "of a series in time give one volume",
            Reason.UNSUPPORTED_PIXELS,
        )
    finite(f"image {path.name}", values)


def _tell_spacing(path: Path, own: Grid, given_mm: tuple[float, float] | None) -> None:
    """Says that the file's own spacing is used where a table states another: the file wins."""
    steps = own.spacing[-2:]
    if given_mm is not None and not (own.unit == "mm" and np.allclose(steps, given_mm, rtol=_SAME_SPACING)):
        tell([f"image {path.name}: its own spacing {steps} {own.unit} is used, not spacing_mm {given_mm} of the table"])


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"image {path.name}: cannot be read ({type(error).__name__})", Reason.DECODE_FAILED)


_Reader = Callable[[Path, Origin, Any], Image]
_READERS: Final[dict[str, _Reader]] = {
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".mha": _metaimage,
    ".mhd": _metaimage,
    ".nrrd": _nrrd,
    **dict.fromkeys(PICTURES, _picture),
}
READ: Final = tuple(_READERS)
