"""Temporal modules where a backbone passes on something else than maps (B*T, C, H, W).

Transformers pass on tokens or maps with the channels last, and some networks several maps at once. The modules of this
file bring what comes into the form that a `TemporalModule` takes, and its result back into the form that came.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["NCHW", "NHWC", "NLC"]


class MapView(nn.Module):
    """A temporal module that is shown maps (B*T, H, W, C), or tokens (B*T, N, C), as maps (B*T, C, H, W).

    Both views are free of copies: maps with the channels last are what channels_last memory is, and tokens in the order
    of rows are the same with H and W in one dimension. Prefix tokens (class, registers) pass by.

    Args:
        module: Takes and returns (B*T, C, H, W).
        kind: `NHWC` or `NLC`.
        prefix: Number of class and register tokens before the map's tokens.
        order: The token at each place of the map, (H, W), if tokens do not run by rows.

    Shape:
        x: (B*T, H, W, C), or (B*T, prefix + H * W, C) -> same
    """

    order: Tensor | None

    def __init__(self, module: nn.Module, kind: Kind, prefix: int = 0, order: Tensor | None = None):
        super().__init__()
        if kind not in ("NHWC", "NLC"):
            raise ValueError(f"kind={kind!r} is unknown; use 'NHWC' or 'NLC'")
        self.module = module
        self.is_tokens = kind == "NLC"
        self.prefix = prefix
        self.image_size = (1, 1)  # of the frames at hand, whose aspect the map has too: VideoNet sets it
        self.register_buffer("order", order, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The module's result on the map, in the layout of x."""
        if not self.is_tokens:
            return self.module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if self.order is not None:
            return self._reordered(x, self.order)
        height, width = self._grid(int(x.shape[1]) - self.prefix)
        result = self._on_map(x[:, self.prefix :], height, width)
        return torch.cat([x[:, : self.prefix], result], dim=1) if self.prefix else result

    def _on_map(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """The module's result on tokens by rows, (B*T, H*W, C)."""
        x = tokens.reshape(tokens.shape[0], height, width, tokens.shape[2]).permute(0, 3, 1, 2)  # (B*T, C, H, W)
        return self.module(x).permute(0, 2, 3, 1).flatten(1, 2)  # (B*T, H*W, C)

    def _reordered(self, x: Tensor, order: Tensor) -> Tensor:
        """The same for tokens in another order."""
        if x.shape[1] != order.numel():
            raise ValueError(
                f"{x.shape[1]} tokens, but the model was built for {order.shape[0]} x {order.shape[1]}; "
                "use frames of the size that it was built for, or build the model with img_size=..."
            )
        by_rows = self._on_map(x[:, order.flatten()], order.shape[0], order.shape[1])
        return by_rows[:, order.flatten().argsort()]

    def _grid(self, count: int) -> tuple[int, int]:
        """Height and width of a map of so many tokens and the aspect of the frames."""
        image_height, image_width = self.image_size
        near = round((count * image_height / image_width) ** 0.5)
        # A side that is not a multiple of the patch is rounded: of the grids nearby, the one of the nearest aspect.
        heights = [height for height in range(max(1, near - 2), near + 3) if count % height == 0]
        if heights:
            aspect = image_height / image_width
            height = min(heights, key=lambda height: abs(math.log(height * height / count / aspect)))
            return height, count // height
        raise ValueError(
            f"{count} tokens do not form a map of aspect {image_height}:{image_width}; use frames whose sides are "
            "multiples of the patch size, and no patch dropout"
        )

    def extra_repr(self) -> str:
        """The layout, for print(model)."""
        return f"NLC, prefix={self.prefix}" if self.is_tokens else "NHWC"


class EachItem(nn.Module):
    """Temporal modules for items of a tuple or list that a backbone passes on; the other items pass by.

    Args:
        modules: One module for each of the items.
        items: Positions of the items in the tuple.

    Shape:
        x: a tuple or list of tensors, as each of the modules takes them -> same
    """

    def __init__(self, modules: Sequence[nn.Module], items: Sequence[int]):
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.items = tuple(items)

    def forward(self, x: Any) -> Any:
        """Each item through its module."""
        results = list(x)
        for item, module in zip(self.items, self.parts, strict=True):
            results[item] = module(results[item])
        return tuple(results) if isinstance(x, tuple) else results

    def extra_repr(self) -> str:
        """The items, for print(model)."""
        return f"items={self.items}"


class TailView(nn.Module):
    """A temporal module for the last channels of a map; the others pass by.

    Args:
        module: Takes and returns (B*T, width, H, W).
        width: Number of the channels.

    Shape:
        x: (B*T, C, H, W) -> same
    """

    def __init__(self, module: nn.Module, width: int):
        super().__init__()
        self.module = module
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """The module's result on the last channels."""
        return torch.cat([x[:, : -self.width], self.module(x[:, -self.width :])], dim=1)

    def extra_repr(self) -> str:
        """The width, for print(model)."""
        return f"width={self.width}"


@dataclass(frozen=True)
class View:
    """What a backbone passes on at some place.

    Attributes:
        kind: `NCHW` maps, `NHWC` maps or `NLC` tokens.
        prefix: Number of class and register tokens before the map's tokens.
        order: The token at each place of the map, (H, W), if tokens do not run by rows.
        items: (index, channels) of the items that get a module, if a tuple or list is passed on.
        tail: Number of the last channels, if the module is for them alone.
    """

    kind: Kind = "NCHW"
    prefix: int = 0
    order: Tensor | None = None
    items: tuple[tuple[int, int], ...] | None = None
    tail: int = 0

    def build(self, create: Callable[[int], nn.Module], channels: int) -> nn.Module:
        """The temporal module for this place: as created, or inside of what this file has for the layout.

        Args:
            create: Channels -> temporal module.
            channels: Channels of the map, where there are no items.
        """
        if self.items is not None:
            return EachItem([self._show(create(c)) for _, c in self.items], [item for item, _ in self.items])
        return self._show(create(channels))

    def _show(self, module: nn.Module) -> nn.Module:
        if self.tail:
            return TailView(module, self.tail)
        return module if self.kind == "NCHW" else MapView(module, self.kind, self.prefix, self.order)


MAPS = View()  # what convolutional networks pass on, and temporal modules take as it is
