"""Neighbouring frames added up in place: temporal convolutions that need no map in another layout.

The work is on frames split off the batch, (B, T, ...), whatever the order of the rest in memory: a batch of frames in
channels_last memory stays there.
"""

from torch import Tensor


def add_shifted(out: Tensor, x: Tensor, offset: int) -> None:
    """out[t] += x[t + offset] in place, wherever that frame exists.

    Args:
        out: Frames to add to.
        x: Frames to add.
        offset: Frames ahead, or behind if negative.

    Shape:
        out, x: (B, T, ...)
    """
    kept = out.shape[1] - abs(offset)
    if kept <= 0:
        return
    if offset >= 0:
        out.narrow(1, 0, kept).add_(x.narrow(1, offset, kept))
    else:
        out.narrow(1, -offset, kept).add_(x.narrow(1, 0, kept))


def add_taps(taps: list[Tensor]) -> Tensor:
    """A temporal convolution whose products are there already: out[t] = sum_k taps[k][t + k - K // 2], K odd.

    A k x k x K convolution is a k x k convolution with K times the outputs, and then this. Frames beyond the ends of
    the clip count as zero.

    Args:
        taps: Products of the frames with the kernel of each tap, the tap of the earliest frame first.

    Shape:
        taps: each (B, T, ...) -> same
    """
    centre = len(taps) // 2
    out = taps[centre].clone()
    for k, tap in enumerate(taps):
        if k != centre:
            add_shifted(out, tap, k - centre)
    return out


def weigh_taps(x: Tensor, weights: Tensor) -> Tensor:
    """A channelwise temporal convolution: out[t] = sum_k weights[..., k] * x[t + k - K // 2], K odd.

    Args:
        x: Frames of clips.
        weights: K weights for each channel, the same for all clips (B' = 1) or one set for each (B' = B).

    Shape:
        x: (B, T, C, H*W); weights: (B', C, K) -> (B, T, C, H*W)
    """
    # In the map's own precision: under autocast a float32 weight would make the whole map float32.
    weights = weights.to(x.dtype)[:, None]  # (B', 1, C, K)
    each = [weights[..., k : k + 1] for k in range(weights.shape[-1])]
    centre = len(each) // 2
    out = x * each[centre]
    for k, weight in enumerate(each):
        if k != centre:
            add_shifted(out, x * weight, k - centre)
    return out
