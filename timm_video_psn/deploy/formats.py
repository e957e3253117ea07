"""The forms of file that models are exported to: how each is written, and how its runtime runs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

Names = tuple[list[str], list[str]]  # of what goes in, and of what comes out
Run = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Format:
    """A form of file.

    Attributes:
        name: As users ask for it.
        file_name: Of the model in its folder.
        packages: What writes or runs it, beside torch.
        write: The program into a file, with names.
        open: A file as a function of tensors to a tuple of them.
        most: The largest number of clips that `dynamic` stands for.
    """

    name: str
    file_name: str
    packages: tuple[str, ...]
    write: Callable[[ExportedProgram, Path, Names], None]
    open: Callable[[Path], Run]
    most: int = 64

    def check_installed(self) -> None:
        """Raises where a package is missing.

        Raises:
            ImportError: With how to install it.
        """
        missing = [package for package in self.packages if not _is_installed(package)]
        if missing:
            raise ImportError(
                f"--format {self.name} needs {', '.join(missing)}: pip install 'timm-video-psn[export]', or "
                f"pip install {' '.join(missing)}"
            )

    def versions(self) -> dict[str, str]:
        """Of torch and the packages."""
        return {package: metadata.version(package) for package in ("torch", *self.packages)}


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _write_torch(program: ExportedProgram, path: Path, names: Names) -> None:
    torch.export.save(program, path)


def _open_torch(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda *tensors: _as_tuple(module(*tensors))


def _write_onnx(program: ExportedProgram, path: Path, names: Names) -> None:
    axes: Any = ({0: "batch"},)  # its name in the file, if there are several sizes
    is_dynamic = any(isinstance(size, torch.SymInt) for size in _input(program).shape)
    model = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=names[0],
        output_names=names[1],
        dynamic_shapes=axes if is_dynamic else None,
    )
    assert model is not None
    model.save(path, external_data=False)


def _open_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: tensor.contiguous().numpy() for name, tensor in zip(names, tensors, strict=True)}
        return tuple(map(torch.from_numpy, session.run(None, arrays)))

    return run


def _write_executorch(program: ExportedProgram, path: Path, names: Names) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch._export.verifier import SpecViolationError

    try:
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    except (SpecViolationError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"ExecuTorch does not support this model: {reason}; use another format") from error
    path.write_bytes(lowered.to_executorch().buffer)


def _open_executorch(path: Path) -> Run:
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs = method.execute([tensor.contiguous() for tensor in tensors])
        return tuple(output.clone() for output in outputs)  # the next call writes to the same memory

    return run


def _write_aoti(program: ExportedProgram, path: Path, names: Names) -> None:
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(program, package_path=str(path))


def _open_aoti(path: Path) -> Run:
    from torch._inductor import aoti_load_package

    package = aoti_load_package(str(path))
    return lambda *tensors: _as_tuple(package(*tensors))


def _as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


FORMATS = {
    "torch": Format("torch", "model.pt2", (), _write_torch, _open_torch),
    "onnx": Format("onnx", "model.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _open_onnx),
    "executorch": Format("executorch", "model.pte", ("executorch",), _write_executorch, _open_executorch, most=8),
    "aoti": Format("aoti", "model.pt2", (), _write_aoti, _open_aoti),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' own reports, which are about their insides."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "executorch", "torch.export", "torchao")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _input(program: ExportedProgram) -> Tensor:
    """The example of what goes in, with symbols for sizes that vary."""
    name = program.graph_signature.user_inputs[0]
    value: Tensor = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    return value
