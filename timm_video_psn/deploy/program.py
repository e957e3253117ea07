"""What is exported: a folded model with one form of input and output, and that form in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from timm_video_psn.deploy.stream import StreamStep
from timm_video_psn.models import VideoNet
from timm_video_psn.models.frames import set_length

Layout = Literal["clip", "frames", "stream"]


@dataclass(frozen=True)
class Normalization:
    """What goes into the file: mean and deviation of each channel, in units of the full range, and the activation."""

    mean: Sequence[float]
    std: Sequence[float]
    activation: str = "softmax"  # or sigmoid


@dataclass(frozen=True)
class BatchRange:
    """The numbers of clips that a file takes at once.

    Attributes:
        smallest: 1, or the same as the largest.
        largest: At least 1.
    """

    smallest: int
    largest: int

    @classmethod
    def parse(cls, text: str, most: int) -> BatchRange:
        """Reads a number, as `4`, a range from 1 on, as `1-8`, or `dynamic`.

        Args:
            text: What a user asks for.
            most: The largest number that `dynamic` stands for.

        Raises:
            ValueError: It is none of these.
        """
        ends = ["1", str(most)] if text == "dynamic" else text.split("-")
        is_known = len(ends) == 1 or (len(ends) == 2 and ends[0] == "1")
        if not (is_known and all(end.isdecimal() and int(end) >= 1 for end in ends)):
            raise ValueError(
                f"batch {text!r} is not a number of clips; use a number (4), a range from 1 (1-8), or 'dynamic'"
            )
        return cls(int(ends[0]), int(ends[-1]))

    @property
    def is_dynamic(self) -> bool:
        """Whether there are several numbers."""
        return self.smallest < self.largest

    @property
    def tested(self) -> tuple[int, int]:
        """Two numbers of clips that a file is tried with: 1 and 3 where it takes them."""
        return self.smallest, min(self.smallest + 2, self.largest)

    def __str__(self) -> str:
        return f"{self.smallest}-{self.largest}" if self.is_dynamic else str(self.smallest)


class Program(nn.Module):
    """A model for frames of one size, with what goes in and comes out as a runtime wants it.

    Without a normalization, normalised frames go in and logits come out; with one, bytes go in and probabilities come
    out.

    Args:
        model: Folded, in evaluation mode.
        layout: `clip`, as the model takes it; `frames` of a single clip, where no tensor has more than four dimensions;
            or `stream`, the next frame with the state that the last call gave, see `StreamStep`.
        img_size: Height and width of the frames.
        normalization: What makes normalised frames of bytes.

    Shape:
        x: `clip` (B, C, T, H, W), or bytes (B, T, H, W, C) -> (B, num_classes); `frames` (T, C, H, W), or bytes
            (T, H, W, C) -> (1, num_classes); `stream` (B, C, H, W), or bytes (B, H, W, C), and the state ->
            (B, num_classes), and the next state
    """

    offset: Tensor
    scale: Tensor

    def __init__(
        self,
        model: VideoNet,
        layout: Layout = "clip",
        img_size: tuple[int, int] = (224, 224),
        normalization: Normalization | None = None,
    ):
        super().__init__()
        if layout not in get_args(Layout):
            raise ValueError(f"layout={layout!r} is unknown; use one of {', '.join(get_args(Layout))}")
        self.layout, self.img_size = layout, img_size
        self.num_frames, self.in_chans = model.num_frames, model.in_chans
        self.model: Any = StreamStep(model) if layout == "stream" else model
        self.normalization, self.takes_bytes = normalization, normalization is not None
        if normalization is not None:
            self.register_buffer("offset", 255 * torch.tensor(normalization.mean))
            self.register_buffer("scale", 255 * torch.tensor(normalization.std))
        if layout != "stream":
            set_length(model.backbone, model.num_frames, img_size)

    def forward(self, x: Tensor, *state: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits or probabilities, and of a stream the next state."""
        if self.takes_bytes:
            x = ((x.float() - self.offset) / self.scale).movedim(-1, 1)
        if self.layout == "stream":
            scores, *state = self.model(x, *state)
        else:
            scores = self.model(x) if self.layout == "clip" else self.model.backbone(x).mean(0, keepdim=True)
        if self.normalization is not None:
            scores = scores.sigmoid() if self.normalization.activation == "sigmoid" else scores.softmax(1)
        return (scores, *state) if self.layout == "stream" else scores

    def input_shape(self, clips: int | str) -> tuple[int | str, ...]:
        """The shape of the frames that go in.

        Args:
            clips: Number of clips, or of streams, or a word for it; the layout `frames` has one clip.
        """
        (height, width), channels = self.img_size, self.in_chans
        rows = {"clip": (clips, self.num_frames), "frames": (self.num_frames,), "stream": (clips,)}[self.layout]
        if self.takes_bytes:
            return (*rows, height, width, channels)
        return (*rows[:1], channels, *rows[1:], height, width)

    def example(self, clips: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Random frames, and for a stream the state before the first frame.

        Args:
            clips: Number of clips, or of streams.
            seed: Of the random numbers.
        """
        generator = torch.Generator().manual_seed(seed)
        shape: Any = self.input_shape(clips)
        if self.takes_bytes:
            frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        else:
            frames = torch.randn(shape, generator=generator)
        if self.layout != "stream":
            return (frames,)
        return (frames, *self.model.initial_state(torch.zeros(clips, self.in_chans, *self.img_size)))

    def input_of(self, clips: Tensor, normalization: Normalization) -> Tensor:
        """Bytes of clips as the program takes them.

        Args:
            clips: Clips as the data pipeline gives them; one clip for the layout `frames`.
            normalization: Mean and deviation, for a program that takes normalised frames.

        Shape:
            clips: (B, T, S, S, C) uint8 -> `input_shape(B)`
        """
        x = clips if self.layout == "clip" else clips[0]
        if self.takes_bytes:
            return x
        offset, scale = (255 * torch.tensor(part) for part in (normalization.mean, normalization.std))
        return ((x.float() - offset) / scale).movedim(-1, 1).contiguous()

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Of what goes in, and of what comes out."""
        states = len(self.example(1)) - 1 if self.layout == "stream" else 0
        first = "frame" if self.layout == "stream" else self.layout
        inputs = [first, *(f"state_{number}" for number in range(states))]
        scores = "probabilities" if self.takes_bytes else "logits"
        return inputs, [scores, *(f"next_state_{number}" for number in range(states))]


def export_program(program: Program, batch: BatchRange) -> ExportedProgram:
    """The graph of a program, for one or for several numbers of clips.

    Args:
        program: What is exported.
        batch: Numbers of clips, or the number of streams.

    Raises:
        ValueError: The layout has no such numbers.
    """
    if program.layout == "frames" and batch != BatchRange(1, 1):
        raise ValueError(f"layout='frames' takes the frames of one clip; batch {batch} needs layout='clip'")
    if program.layout == "stream" and batch.is_dynamic:
        raise ValueError(f"layout='stream' needs a fixed number of streams, such as 1, found {batch}")
    clips = batch.smallest
    shapes = None
    if batch.is_dynamic:
        clips = 2  # an example of one would fix the dimension to one
        shapes = ({0: Dim("batch", min=batch.smallest, max=batch.largest)},)
    with torch.no_grad():
        return torch.export.export(program, program.example(clips), dynamic_shapes=shapes)
