"""Whether a file gives the outputs of the model that it was made of."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timm_video_psn.deploy.formats import Run
from timm_video_psn.deploy.program import BatchRange, Program
from timm_video_psn.models import VideoNet

_TOLERANCE = 1e-3  # of the largest output; runtimes differ from eager by a hundredth of it


@dataclass(frozen=True)
class Parity:
    """How far a file's outputs are from the model's own outputs on the same random input.

    Attributes:
        errors: Largest difference, by number of clips.
        largest: Largest output of the model.
    """

    errors: dict[int, float]
    largest: float

    @property
    def relative(self) -> float:
        """The largest difference as a share of the largest output."""
        return max(self.errors.values()) / max(self.largest, 1e-3)

    @property
    def is_close(self) -> bool:
        """Whether the file is good enough to be kept."""
        return self.relative <= _TOLERANCE

    def as_config(self) -> dict[str, Any]:
        """The entries of the `config.json` beside the file."""
        return {"parity": {"largest_difference": self.errors, "largest_output": self.largest}}

    def __str__(self) -> str:
        errors = ", ".join(f"{error:.1e} for {clips} clip{'s' * (clips > 1)}" for clips, error in self.errors.items())
        return f"largest difference from the model: {errors}; largest output {self.largest:.2f}"


@torch.no_grad()
def measure_parity(run: Run, program: Program, model: VideoNet, batch: BatchRange) -> Parity:
    """Compares a file with the model that it was made of.

    Args:
        run: The file, as its runtime runs it.
        program: What was exported.
        model: The model itself, not folded. What a stream gives after all frames is compared with the whole clip.
        batch: The numbers of clips that the file takes; two of them are tried, or one with two inputs.
    """
    layout = "clip" if program.layout == "stream" else program.layout
    judge = Program(model, layout, program.img_size, program.normalization).eval()
    errors: dict[int, float] = {}
    largest = 0.0
    for seed, clips in enumerate(batch.tested):
        (x,) = judge.example(clips, seed)
        expected = judge(x)
        found = _stream(run, program, x) if program.layout == "stream" else run(x)[0]
        errors[clips] = max(float((found - expected).abs().max()), errors.get(clips, 0.0))
        largest = max(largest, float(expected.abs().max()))
    return Parity(errors, largest)


def _stream(run: Run, program: Program, clips: Tensor) -> Tensor:
    """The scores after the last frame of clips, given frame by frame."""
    _, *state = program.example(len(clips))
    scores = clips
    for frame in clips.unbind(1 if program.takes_bytes else 2):
        scores, *state = run(frame, *state)
    return scores
