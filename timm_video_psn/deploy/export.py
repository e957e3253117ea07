"""A trained model as a file that other runtimes run, with what they need to know, and compared before it is kept."""

from __future__ import annotations

import copy
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from timm_video_psn.deploy.example_script import example_script
from timm_video_psn.deploy.fold import fold
from timm_video_psn.deploy.formats import FORMATS, Format, quiet
from timm_video_psn.deploy.parity import Parity, measure_parity
from timm_video_psn.deploy.program import BatchRange, Layout, Normalization, Program, export_program
from timm_video_psn.deploy.quantize import INT8, Agreement, calibration_inputs, check_int8, measure_agreement
from timm_video_psn.files import atomic_folder, file_sha256
from timm_video_psn.models import VideoNet
from timm_video_psn.version import __version__


@dataclass(frozen=True)
class Exported:
    """A folder with an exported model.

    Attributes:
        folder: Holds the file, `config.json`, `example.py`, and of a stream `initial_state.npz`.
        file: The model.
        parity: How close it is to the model; an eight-bit file agrees with it.
    """

    folder: Path
    file: Path
    parity: Parity | Agreement


def export(
    model: VideoNet,
    folder: str | Path,
    format: str = "torch",
    *,
    layout: Layout = "clip",
    batch: str | None = None,
    img_size: int | None = None,
    normalize: bool = False,
    calibration: Tensor | None = None,
    config: dict[str, Any] | None = None,
) -> Exported:
    """Writes a model into a folder as a file for a runtime; it is kept only if that runtime gives the model's outputs.

    Args:
        model: A trained model; a folded copy is exported.
        folder: A new folder.
        format: `torch` (torch.export), `onnx`, `executorch` (for XNNPACK) or `aoti` (AOTInductor, for this machine).
        layout: `clip` (B, C, T, H, W); `frames` (T, C, H, W), where no tensor has more than four dimensions; or
            `stream`, one frame of each of B streams and a state (a causal model's, see `deploy.stream`).
        batch: Clips at once: a number, a range as "1-8", or "dynamic"; None for `dynamic`, with `executorch`, which
            plans memory for the largest, and with the layouts `frames` and `stream` for 1.
        img_size: Side of the frames; None for the size in the model's cfg.
        normalize: Put the normalisation and the softmax or sigmoid into the file: bytes in, probabilities out.
        calibration: Clips of the training set, (N, T, S, S, 3) uint8, for a file with eight-bit integers; None for a
            float file. An eight-bit file is kept if it gives the model's class for 90 % of these clips.
        config: Entries for the `config.json` beside the file that the model itself does not know: `label_names`,
            `activation`, and `video`, how its validation looked at a video (`sampling`, `img_size`, `short_side`).

    Raises:
        FileExistsError: The folder is there already.
        ImportError: A package for this format is missing.
        ValueError: An option is unknown, the model cannot be brought into this format, or its outputs differ.

    Example:
        >>> import timm, timm_video_psn
        >>> model = timm.create_model("tsn_test_resnet", num_frames=2)
        >>> export(model, "exported", img_size=32).file  # doctest: +SKIP
        PosixPath('exported/model.pt2')
    """
    folder = Path(folder)
    if format not in FORMATS:
        raise ValueError(f"format {format!r} is unknown; use one of {', '.join(FORMATS)}")
    kind = FORMATS[format]
    kind.check_installed()
    if folder.exists():
        raise FileExistsError(f"{folder} already exists; name a new folder, or remove it")
    sizes = BatchRange.parse(batch or ("1" if format == "executorch" or layout != "clip" else "dynamic"), kind.most)
    if calibration is not None:
        check_int8(format, layout, sizes)
    model = copy.deepcopy(model).to("cpu", torch.float32).eval()
    cfg = model.pretrained_cfg
    side = img_size or cfg["input_size"][-1]
    activation = (config or {}).get("activation", "softmax")
    normalization = Normalization(cfg["mean"], cfg["std"], activation)
    program = Program(fold(model, addmm=False), layout, (side, side), normalization if normalize else None).eval()
    program.to(memory_format=torch.contiguous_format)  # XNNPACK refuses weights whose channels are last
    with atomic_folder(folder) as draft:
        file = draft / kind.file_name
        with quiet():
            if calibration is None:
                kind.write(export_program(program, sizes), file, program.names)
                closeness: Parity | Agreement = measure_parity(kind.open(file), program, model, sizes)
            else:
                inputs = calibration_inputs(program, calibration, sizes.smallest, normalization)
                INT8[format](export_program(program, sizes), file, program.names, inputs)
                closeness = measure_agreement(kind.open(file), program, model, inputs)
        if not closeness.is_close:
            raise ValueError(
                f"the {format} file was discarded: {closeness}; use another format, and report the model's name"
            )
        entries = {**_describe(model, program, kind, sizes), "sha256": file_sha256(file), **closeness.as_config()}
        entries |= config or {}
        (draft / "config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        (draft / "example.py").write_text(example_script(format, entries), encoding="utf-8")
        if layout == "stream":
            names, state = program.names[0][1:], program.example(sizes.smallest)[1:]
            arrays: Any = {name: value.numpy() for name, value in zip(names, state, strict=True)}
            np.savez(draft / "initial_state.npz", **arrays)
    return Exported(folder, folder / kind.file_name, closeness)


def _describe(model: VideoNet, program: Program, kind: Format, batch: BatchRange) -> dict[str, Any]:
    """The entries of `config.json` that the model itself knows."""
    cfg, side = model.pretrained_cfg, program.img_size[0]
    inputs, outputs = program.names
    state = [list(value.shape) for value in program.example(batch.smallest)[1:]]
    return {
        "format": kind.name,
        "file": kind.file_name,
        "architecture": cfg.get("architecture"),
        "layout": program.layout,
        "input": {
            "name": inputs[0],
            "shape": list(program.input_shape("batch" if batch.is_dynamic else batch.smallest)),
            "dtype": "uint8" if program.takes_bytes else "float32",
            "batch": str(batch),
        },
        "output": {"name": outputs[0], "num_classes": model.num_classes},
        **({"state": {"inputs": inputs[1:], "outputs": outputs[1:], "shapes": state}} if state else {}),
        "num_frames": model.num_frames,
        "preprocessing": {
            "included": program.takes_bytes,
            **{key: cfg[key] for key in ("mean", "std", "interpolation")},
        },
        "video": {
            "sampling": "segments",
            "img_size": side,
            "short_side": round(side / (cfg.get("crop_pct") or 0.875)),
        },
        "label_names": [f"class {number}" for number in range(model.num_classes)],
        "versions": {"timm_video_psn": __version__, "python": platform.python_version(), **kind.versions()},
    }
