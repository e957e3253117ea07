"""Keep something of a forward although the forward may run twice: gradient checkpointing runs it again in backward.

A record of the second run would hold its graph until the next step, which is the memory that checkpointing saves. And
`torch.compile` allows no record at all inside a checkpointed block, unless it is told that the record may happen there.
Neither question has a public function in PyTorch; the private calls of the package are all in this file.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def record(keep: Callable[[Tensor], None], x: Tensor) -> None:
    """Call `keep(x)` in the first forward of a step, and not in the forward that checkpointing repeats in backward.

    Args:
        keep: Stores what it needs of `x` on a module.
        x: A tensor of the forward.
    """
    if torch.compiler.is_compiling():
        allowed = getattr(torch._dynamo.utils, "_disable_side_effect_safety_checks_for_current_subtracer", None)
        if allowed is None:  # torch.compile then refuses the combination, and says which of its settings to use
            keep(x)
        else:
            allowed(keep, x)
    elif torch._C._current_graph_task_id() == -1:  # outside of backward
        keep(x)
