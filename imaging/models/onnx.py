"""A network given as an ONNX file, run by onnxruntime on the processor, behind the face of every other network.

The file must hold everything: weights that lie beside it and operators of others are refused, so that the sha256 of the
file is that of the network. onnxruntime is imported only here, and only when a package with such a network is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from imaging.errors import PackageError, Reason
from imaging.models.build import Outputs
from imaging.models.networks import OnnxSettings

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_FLOAT32: Final = "tensor(float)"
_QUIET: Final = 4  # onnxruntime's severity "fatal": what fails is raised here, with a reason
# Where weights outside the file would be looked for: on no file system is there a folder below a device.
_NOWHERE: Final = "/dev/null/no-external-data"


class OnnxNetwork(nn.Module):
    """The network of one file. Its forward gives `Outputs` with logits (batch, out_channels, *spatial), float32."""

    def __init__(self, network: OnnxSettings, path: Path) -> None:
        """Reads the file; as many threads are used as torch has in this process.

        Raises PackageError where onnxruntime is missing, and for a file that is not the network described.
        """
        super().__init__()
        self.network = network
        self._name = path.name
        self._session = session_of(path.name, path.read_bytes())
        self._check_ends()

    def forward(self, x: Tensor) -> Outputs:
        """Logits of x (batch, in_channels, *spatial). Raises PackageError where the file cannot take x."""
        logits = self._passed(x)
        if self.network.mirrored:
            axes = [axis + 1 for axis in self.network.mirrored]
            logits = (logits + self._passed(x.flip(axes)).flip(axes)) / 2
        return Outputs(logits.to(x.device), None)

    def _passed(self, x: Tensor) -> Tensor:
        """One pass through the file."""
        turned = _to_file(x, self.network.axes).float().cpu().contiguous()
        try:
            (said,) = self._session.run(None, {self._session.get_inputs()[0].name: turned.numpy()})
        except Exception as error:  # onnxruntime's errors share no base but this one
            raise PackageError(
                f"{self._name}: an image of {list(turned.shape)} cannot be passed through the network: {_line(error)}",
                Reason.PREDICTION_FAILED,
            ) from error
        logits = torch.from_numpy(np.asarray(said))
        if self.network.activation == "sigmoid":  # softmax of (0, x) is the sigmoid of x
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        expected = (len(x), self.network.out_channels, *turned.shape[2:])
        if logits.shape != expected:
            raise PackageError(
                f"{self._name}: the network gave {list(logits.shape)}; expected are {list(expected)}",
                Reason.PREDICTION_FAILED,
            )
        return _from_file(logits, self.network.axes)

    def _check_ends(self) -> None:
        """One input and one output of the channels and axes that the description states."""
        given = self.network.out_channels if self.network.activation == "softmax" else 1
        for what, ends, channels in (
            ("input", self._session.get_inputs(), self.network.in_channels),
            ("output", self._session.get_outputs(), given),
        ):
            found = [(end.type, list(end.shape)) for end in ends]
            if len(found) != 1 or not _is_as_told(*found[0], channels, self.network.spatial_dims):
                raise PackageError(
                    f"{self._name}: {what} is {found}; the description needs one {_FLOAT32} with {channels} channels "
                    f"and {self.network.spatial_dims} spatial axes",
                    Reason.PACKAGE_INVALID,
                )


def session_of(name: str, content: bytes) -> InferenceSession:
    """The network of a file's bytes, on the processor. Raises PackageError naming the file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise PackageError(
            f"{name}: onnxruntime is not installed; install the extra: pip install 'sitewise-imaging[onnx]'",
            Reason.NOT_INSTALLED,
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    # Blocks go back when they are freed: the process holds what one pass needs, and not the sum of all passes' peaks.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _QUIET
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise PackageError(
            f"{name}: it is no ONNX network of standard operators with all weights in the file: {_line(error)}",
            Reason.PACKAGE_INVALID,
        ) from error


def _is_as_told(kind: str, shape: Sequence[Any], channels: int, spatial_dims: int) -> bool:
    """Whether an end of the file is as described; a size of no number is one that the file leaves open."""
    return kind == _FLOAT32 and len(shape) == spatial_dims + 2 and (shape[1] == channels or isinstance(shape[1], str))


def _to_file(x: Tensor, axes: Sequence[int]) -> Tensor:
    """(batch, channel, *spatial) in the file's order and directions of axes."""
    reversed_ones = [abs(axis) + 1 for axis in axes if axis < 0]
    return x.flip(reversed_ones).permute(0, 1, *(abs(axis) + 1 for axis in axes)) if axes else x


def _from_file(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The way back."""
    if not axes:
        return x
    order = [abs(axis) for axis in axes]
    back = x.permute(0, 1, *(order.index(axis) + 2 for axis in range(1, len(order) + 1)))
    return back.flip([abs(axis) + 1 for axis in axes if axis < 0])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
