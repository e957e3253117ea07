"""Eight-bit files: ONNX Runtime's static quantisation, and torchao's pt2e quantisation for ExecuTorch with XNNPACK.

Both take the ranges of the activations from clips of the training set, and quantise weights by channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from timm_video_psn.deploy.formats import FORMATS, Names, Run
from timm_video_psn.deploy.program import Normalization, Program
from timm_video_psn.models import VideoNet

_AGREEMENT = 0.9  # share of the calibration clips whose class must stay

Write = Callable[[ExportedProgram, Path, Names, Sequence[Tensor]], None]


@dataclass(frozen=True)
class Agreement:
    """How an eight-bit file answers beside the model, on the clips that its ranges come from.

    Attributes:
        clips: Number of clips.
        same: Clips with the same most likely class.
        difference: Mean difference of the outputs, as a share of the model's largest output.
    """

    clips: int
    same: int
    difference: float

    @property
    def share(self) -> float:
        """Share of the clips with the same most likely class."""
        return self.same / self.clips

    @property
    def is_close(self) -> bool:
        """Whether the file is good enough to be kept."""
        return self.share >= _AGREEMENT

    def as_config(self) -> dict[str, Any]:
        """The entries of the `config.json` beside the file."""
        return {"int8": {"calibration_clips": self.clips, "same_class": self.same, "mean_difference": self.difference}}

    def __str__(self) -> str:
        return (
            f"int8: the class of the model for {self.same} of {self.clips} calibration clips "
            f"({self.share:.1%}); mean difference {self.difference:.1%} of the largest output"
        )


def _write_onnx(program: ExportedProgram, path: Path, names: Names, inputs: Sequence[Tensor]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Clips(CalibrationDataReader):
        """Gives the runtime one input after the other."""

        def __init__(self) -> None:
            self.rest = iter(inputs)

        def get_next(self) -> dict[str, Any] | None:
            x = next(self.rest, None)
            return None if x is None else {names[0][0]: x.numpy()}

    plain = path.with_suffix(".float.onnx")
    FORMATS["onnx"].write(program, plain, names)
    quantize_static(
        plain,
        path,
        Clips(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )
    plain.unlink()


def _write_executorch(program: ExportedProgram, path: Path, names: Names, inputs: Sequence[Tensor]) -> None:
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    settings = xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True)
    quantizer = xnnpack_quantizer.XNNPACKQuantizer().set_global(settings)
    prepared = prepare_pt2e(program.module(), quantizer)
    for x in inputs:
        prepared(x)
    with torch.no_grad():
        quantized = torch.export.export(convert_pt2e(prepared), (inputs[0],))
    FORMATS["executorch"].write(quantized, path, names)


# How each format that has eight bits is written.
INT8: Mapping[str, Write] = {"onnx": _write_onnx, "executorch": _write_executorch}


def check_int8(format: str, layout: str, batch: Any) -> None:
    """Raises where there is no eight-bit form.

    Args:
        format: A name in `FORMATS`.
        layout: Layout of the input.
        batch: Numbers of clips, a `BatchRange`.

    Raises:
        ValueError: The format, the layout or the batch has no eight-bit form.
    """
    if format not in INT8:
        raise ValueError(f"--int8 does not go with --format {format}; use one of {', '.join(INT8)}")
    if layout == "stream":
        raise ValueError("--int8 does not go with --layout stream; use clip or frames")
    if format == "executorch" and batch.is_dynamic:
        raise ValueError(f"--int8 fixes the number of clips in an executorch file; use a number, as 1, not {batch}")


def calibration_inputs(program: Program, clips: Tensor, batch: int, normalization: Normalization) -> list[Tensor]:
    """Clips as inputs of a program; clips that do not fill a batch are left out.

    Args:
        program: What is exported.
        clips: Clips as a trained model reads them.
        batch: Clips in an input.
        normalization: Mean and deviation of the model.

    Shape:
        clips: (N, T, S, S, 3) uint8

    Raises:
        ValueError: There are fewer clips than a batch.
    """
    if len(clips) < batch:
        raise ValueError(
            f"{len(clips)} calibration clips do not fill a batch of {batch}; give more, or a smaller batch"
        )
    return [program.input_of(part, normalization) for part in clips.split(batch) if len(part) == batch]


@torch.no_grad()
def measure_agreement(run: Run, program: Program, model: VideoNet, inputs: Iterable[Tensor]) -> Agreement:
    """Compares an eight-bit file with the model on clips.

    Args:
        run: The file, as its runtime runs it.
        program: What was exported.
        model: The model itself.
        inputs: Inputs as `calibration_inputs` gives them.
    """
    judge = Program(model, program.layout, program.img_size, program.normalization).eval()
    expected, found = (torch.cat(rows) for rows in zip(*((judge(x), run(x)[0]) for x in inputs), strict=True))
    same = int((expected.argmax(1) == found.argmax(1)).sum())
    return Agreement(len(expected), same, float((expected - found).abs().mean() / expected.abs().max()))
