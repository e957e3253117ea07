"""Causal models on a stream: a frame goes in, the logits of all frames so far come out."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from timm_video_psn.layers.past import Past
from timm_video_psn.layers.temporal_module import TemporalModule
from timm_video_psn.models import VideoNet
from timm_video_psn.surgery import replace


class Memory(nn.Module):
    """Puts the frames that came before in front of those at hand, and keeps the last of them for the next call.

    Args:
        past: The padding that it takes the place of, and that comes before the first frame.

    Shape:
        x: as for `Past`.
    """

    def __init__(self, past: Past):
        super().__init__()
        self.padding, self.length, self.dim = past, past.length, past.dim
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Joins them."""
        joined = self.padding(x) if self.state is None else torch.cat([self.state, x], dim=self.dim)
        self.state = joined.narrow(self.dim, joined.shape[self.dim] - self.length, self.length)
        return joined


class StreamStep(nn.Module):
    """A causal model as a function of a frame and a state, for `Stream` and for export.

    The state is a tuple of tensors of at most four dimensions: what each causal module keeps of earlier frames, then
    the sum of the frames' logits, and their number.

    Args:
        model: Built with `causal=True`, folded or not; it is copied.
        decay: Share of an earlier frame's weight that the next frame leaves it; 1 for the plain average of all frames.

    Shape:
        frame: normalised frames of B streams, (B, C, H, W); and a state -> logits (B, num_classes), and the next state

    Raises:
        ValueError: The model is not causal, or the decay is not in (0, 1].
    """

    def __init__(self, model: VideoNet, decay: float = 1.0):
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(
                f"decay={decay} is not in (0, 1]; use 1 for the average of all frames, 0.9 for recent ones"
            )
        _check_causal(model)
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        pasts = {name: module for name, module in self.model.named_modules() if isinstance(module, Past)}
        if pasts:
            replace(self.model, list(pasts), lambda name, _: Memory(pasts[name]))

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Logits of all frames so far, and the next state."""
        memories = self._memories()
        *kept, total, count = state
        for memory, value in zip(memories, kept, strict=True):
            memory.state = value
        total = total * self.decay + self.model(frame)
        count = count * self.decay + 1
        kept = [memory.state for memory in memories if memory.state is not None]
        for memory in memories:  # a graph is exported of a function, which leaves nothing behind
            memory.state = None
        return (total / count, *kept, total, count)

    @torch.no_grad()
    def initial_state(self, frame: Tensor) -> tuple[Tensor, ...]:
        """The state before the first frame.

        Args:
            frame: One of the streams' shape, type and device.
        """
        padding: dict[nn.Module, Tensor] = {}
        handles = [
            memory.register_forward_hook(
                lambda memory, _, joined: padding.update({memory: joined.narrow(memory.dim, 0, memory.length).clone()})
            )
            for memory in self._memories()
        ]
        total = torch.zeros_like(self.model(frame))
        for handle in handles:
            handle.remove()
        for memory in self._memories():
            memory.state = None
        return (*(padding[memory] for memory in self._memories()), total, total.new_zeros(1))

    def _memories(self) -> list[Memory]:
        """In the order of the network."""
        return [module for module in self.model.modules() if isinstance(module, Memory)]


class Stream:
    """A causal model that is given one frame after another, and remembers what it needs of them.

    After T steps its logits are the model's for the clip of these T frames, at the cost of one frame a step.

    Args:
        model: Built with `causal=True`, folded or not.
        decay: See `StreamStep`.

    Example:
        >>> import timm, torch, timm_video_psn
        >>> model = timm.create_model("psn_test_resnet", causal=True, num_classes=5).eval()
        >>> stream = Stream(model)
        >>> clip = torch.randn(1, 3, 4, 64, 64)
        >>> for t in range(4):
        ...     logits = stream.step(clip[:, :, t])
        >>> torch.allclose(logits, model(clip), atol=1e-5)
        True
    """

    def __init__(self, model: VideoNet, decay: float = 1.0):
        self._step = StreamStep(model, decay)
        self._state: tuple[Tensor, ...] | None = None

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor:
        """The logits of all frames so far, this one included.

        Args:
            frame: The next frame of a stream, or of each of B streams.

        Shape:
            frame: normalised, (C, H, W) -> (num_classes,); (B, C, H, W) -> (B, num_classes)
        """
        if frame.ndim == 3:
            return self.step(frame[None])[0]
        if self._state is None:
            self._state = self._step.initial_state(frame)
        logits, *state = self._step(frame, *self._state)
        self._state = tuple(state)
        return logits

    def reset(self) -> None:
        """Forgets all frames: what comes next is the first frame of another video."""
        self._state = None


def _check_causal(model: VideoNet) -> None:
    """Raises for a model in which a frame sees later ones."""
    others = [
        name for name, module in model.named_modules() if isinstance(module, TemporalModule) and not module.causal
    ]
    if others:
        raise ValueError(
            f"{others[0]} is a {type(model.get_submodule(others[0])).__name__} that sees later frames; a stream needs "
            "a model that was built and trained with causal=True (psn, tsm, gsm, rf_*)"
        )
