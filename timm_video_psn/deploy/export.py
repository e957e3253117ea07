"""A trained model as a file that other runtimes run, with what they need to know, and compared before it is kept."""

from __future__ import annotations

import copy
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from timm_video_psn.deploy.example_script import example_script
from timm_video_psn.deploy.fold import fold
from timm_video_psn.deploy.formats import FORMATS, Format, Run, quiet
from timm_video_psn.deploy.program import Batch, Layout, Normalization, Program, export_program
from timm_video_psn.files import atomic_folder, file_sha256
from timm_video_psn.models import VideoNet
from timm_video_psn.version import __version__

_TOLERANCE = 1e-3  # of the largest output; runtimes differ from eager by a hundredth of it


@dataclass(frozen=True)
class Parity:
    """How far a file's outputs are from those of the model itself, both run on random input.

    Attributes:
        errors: largest difference, by number of clips.
        largest: largest output of the model.
    """

    errors: dict[int, float]
    largest: float

    def __str__(self) -> str:
        errors = ", ".join(f"{error:.1e} for {clips} clip{'s' * (clips > 1)}" for clips, error in self.errors.items())
        return f"largest difference from the model: {errors}; largest output {self.largest:.2f}"


@dataclass(frozen=True)
class Exported:
    """A folder with an exported model.

    Attributes:
        folder: holds the file, `config.json` and `example.py`.
        file: the model.
        parity: how close it is to the model.
    """

    folder: Path
    file: Path
    parity: Parity


def export(
    model: VideoNet,
    folder: str | Path,
    format: str = "torch",
    *,
    layout: Layout = "clip",
    batch: str | None = None,
    img_size: int | None = None,
    normalize: bool = False,
    config: dict[str, Any] | None = None,
) -> Exported:
    """Write a model into a folder as a file for a runtime; it is kept only if that runtime gives the model's outputs.

    Args:
        model: a trained model, which is folded first.
        folder: a new folder.
        format: `torch` (torch.export), `onnx`, `executorch` (for XNNPACK) or `aoti` (AOTInductor, for this machine).
        layout: `clip` (B, C, T, H, W), or `frames` (T, C, H, W), where no tensor has more than four dimensions.
        batch: clips at once: a number, a range as "1-8", or "dynamic"; None for `dynamic`, with `executorch`, which
            plans memory for the largest, and with the layout `frames` for 1.
        img_size: side of the frames; None for that of the model's cfg.
        normalize: put the normalisation and the softmax into the file: bytes in, probabilities out.
        config: entries for the `config.json` beside the file that the model itself does not know: `label_names`,
            and `video`, how its validation looked at a video (`sampling`, `img_size`, `short_side`).

    Raises:
        FileExistsError: the folder is there already.
        ImportError: a package for this format is missing.
        ValueError: an option is unknown, the model cannot be brought into this format, or its outputs differ.

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
        raise FileExistsError(f"{folder} is there already; give the name of a new folder, or remove it")
    sizes = Batch.parse(batch or ("1" if format == "executorch" or layout == "frames" else "dynamic"), kind.most)
    model = copy.deepcopy(model).to("cpu", torch.float32).eval()
    side = img_size or model.pretrained_cfg["input_size"][-1]
    cfg = model.pretrained_cfg
    form = (layout, (side, side), Normalization(cfg["mean"], cfg["std"]) if normalize else None)
    program = Program(fold(model, addmm=False), *form).eval()
    with atomic_folder(folder) as draft:
        with quiet():
            exported = export_program(program, sizes)
            kind.write(exported, draft / kind.file_name, (layout, _output_name(program)))
            run = kind.open(draft / kind.file_name)
            parity = compare(run, Program(model, *form).eval(), sizes)
        _check(parity, kind)
        entries = {**_describe(program, kind, sizes, parity, draft / kind.file_name), **(config or {})}
        (draft / "config.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
        (draft / "example.py").write_text(example_script(format, entries), encoding="utf-8")
        del run  # a runtime may hold the file
    return Exported(folder, folder / kind.file_name, parity)


@torch.no_grad()
def compare(run: Run, program: Program, batch: Batch) -> Parity:
    """Compare a file with the model that it was made of.

    Args:
        run: the file, as its runtime runs it.
        program: the model itself.
        batch: the numbers of clips that the file takes; two of them are tried, or one with two inputs.
    """
    errors: dict[int, float] = {}
    largest = 0.0
    for seed, clips in enumerate(batch.tested):
        x = program.example(clips, seed)
        expected = program(x)
        error = float((run(x) - expected).abs().max())
        errors[clips] = max(error, errors.get(clips, 0.0))
        largest = max(largest, float(expected.abs().max()))
    return Parity(errors, largest)


def _check(parity: Parity, kind: Format) -> None:
    """Raise where the outputs are others."""
    worst = max(parity.errors.values())
    if not worst <= _TOLERANCE * max(parity.largest, 1e-3):
        raise ValueError(
            f"the {kind.name} file is not kept: its outputs differ by {worst:.1e} from the model's, whose largest is "
            f"{parity.largest:.1e}; use another format or layout, and report the model's name"
        )


def _output_name(program: Program) -> str:
    return "probabilities" if program.takes_bytes else "logits"


def _describe(program: Program, kind: Format, batch: Batch, parity: Parity, file: Path) -> dict[str, Any]:
    """The entries of `config.json` that do not come from the run."""
    model = program.model
    cfg = model.pretrained_cfg
    side = program.img_size[0]
    return {
        "format": kind.name,
        "file": kind.file_name,
        "sha256": file_sha256(file),
        "architecture": cfg.get("architecture"),
        "input": {
            "name": program.layout,
            "shape": list(program.input_shape("batch" if batch.is_dynamic else batch.smallest)),
            "dtype": "uint8" if program.takes_bytes else "float32",
            "batch": str(batch),
        },
        "output": {"name": _output_name(program), "num_classes": model.num_classes},
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
        "parity": {"largest_difference": parity.errors, "largest_output": parity.largest},
        "versions": {"timm_video_psn": __version__, "python": platform.python_version(), **kind.versions()},
    }
