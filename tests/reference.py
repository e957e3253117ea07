"""Eq. 1 to 4 as plain loops over clips, frames, channels, pixels and taps: the judge of the package's numbers.

Nothing here comes from the package. Arrays are torch tensors, so that autograd runs through the loops. A map is a
nested list `[t][c][y][x]`, each entry a tensor over the clips of the batch, (B,).

The paper is arXiv 2007.11460. Where it is silent, a function says what was chosen instead.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

BN_EPS = 1e-5

Map = list[list[list[list[Tensor]]]]  # [t][c][y][x] -> (B,)


class NormedConv(NamedTuple):
    """A spatial kernel, (c, c, rows, columns), and the batch norm that follows it."""

    kernel: Tensor
    gamma: Tensor
    beta: Tensor
    mean: Tensor
    var: Tensor


class Weights(NamedTuple):
    """Everything in a synthesizer that is a number."""

    reduce: Tensor  # (C, C_in)
    spatial: list[list[NormedConv]]  # for each branch with a kernel, one convolution, or two if 1+1d beyond 1x1
    routing: Tensor  # (C, C)
    temporal: list[Tensor]  # for each branch with a kernel beyond 1, (c, c, taps)
    expand: Tensor  # (C_in, C)


def synthesize(
    clip: Tensor,
    weights: Weights,
    receptive_field: tuple[int, int, int],
    pool: str = "max",
    inter_act: bool = True,
    dilated: bool = True,
    spatial_conv: str = "2d",
    training: bool = False,
    unit: str = "identity",
) -> tuple[Tensor, Tensor]:
    """z = V + U, with V = sum_i W'(i) . (sum_j W(j) . U * F_s^(2j-1)(2j-1)1) * F_t^11(2i-1)  (Eq. 1), in groups.

    reduce -> X_j = U_j * F_s -> Y = T X -> Y_i * F_t -> expand -> + U. The receptive field is (T, H, W). Branch k of
    the spatial bank spans 2k+1 rows and columns but no more than H and W; branch k of the temporal bank 2k+1 frames.
    A pooling branch of span 3, or an identity in its place, comes last. Only spatial convolutions have a norm and a
    ReLU; the branch of one pixel is one of them if `unit` is "conv".

    Returns:
        z, (B, C_in, T, H, W), and Y, (B, C, T, H, W).
    """
    u = to_map(clip)
    frames, rows, columns = receptive_field
    spans = [(min(2 * k + 1, rows), min(2 * k + 1, columns)) for k in range(max(rows, columns) // 2 + 1)]
    lengths = [2 * k + 1 for k in range(frames // 2 + 1)]
    pools = 0 if pool == "none" else 1

    reduced = mix_channels(u, weights.reduce)
    x = []
    for j, group in enumerate(split(reduced, widths(len(weights.reduce), len(spans) + pools))):
        if j == len(spans):
            x.append(group if pool == "identity" else spatial_pool(group, pool))
        elif j == 0 and unit == "identity":
            x.append(group)
        else:
            height, width = spans[j]
            steps = [(height, width)] if spatial_conv == "2d" or j == 0 else [(height, 1), (1, width)]
            for (h, w), layer in zip(steps, weights.spatial[j - (unit == "identity")], strict=True):
                group = spatial_conv_2d(group, layer.kernel, offsets(h, dilated), offsets(w, dilated))
                group = batch_norm(group, layer, training)
                if inter_act:
                    group = relu(group)
            x.append(group)

    fused = mix_channels(concatenate(x), weights.routing)

    y = []
    for i, group in enumerate(split(fused, widths(len(weights.routing), len(lengths) + pools))):
        if i == len(lengths):
            y.append(group if pool == "identity" else temporal_pool(group, pool))
        elif i == 0:
            y.append(group)
        else:
            y.append(temporal_conv(group, weights.temporal[i - 1], offsets(lengths[i], dilated)))

    return clip + to_tensor(mix_channels(concatenate(y), weights.expand)), to_tensor(fused)


def interaction_loss(routing: Tensor, in_widths: list[int], out_widths: list[int]) -> Tensor:
    """L_interaction = -1/G^2 sum_i sum_j sigmoid(||T_ij||_1)  (Eq. 2), the l1 norm that of all entries of the block."""
    total = torch.zeros((), dtype=routing.dtype)
    for i, height in enumerate(out_widths):
        for j, width in enumerate(in_widths):
            norm = torch.zeros((), dtype=routing.dtype)
            for row in range(sum(out_widths[:i]), sum(out_widths[:i]) + height):
                for column in range(sum(in_widths[:j]), sum(in_widths[:j]) + width):
                    norm = norm + routing[row, column].abs()
            total = total + 1 / (1 + torch.exp(-norm))
    return -total / (len(out_widths) * len(in_widths))


def capacity_loss(fused: Tensor, out_widths: list[int]) -> Tensor:
    """L_capacity = 1/G^2 sum_i sum_j avg(Y_i) . avg(Y_j) / (|avg(Y_i)| |avg(Y_j)|)  (Eq. 3), averaged over the batch.

    avg runs over T, H and W of Y, (B, C, T, H, W). Paper silent on groups of unequal width, which are compared on their
    common leading channels, and on groups of zeros, whose cosine is 0.
    """
    total = torch.zeros((), dtype=fused.dtype)
    for clip in fused:
        groups = []
        for i in range(len(out_widths)):
            first = sum(out_widths[:i])
            groups.append([average(clip[first + n]) for n in range(min(out_widths))])
        for a in groups:
            for b in groups:
                if any(value != 0 for value in a) and any(value != 0 for value in b):
                    total = total + dot(a, b) / (torch.sqrt(dot(a, a)) * torch.sqrt(dot(b, b)))
    return total / len(out_widths) ** 2 / len(fused)


def shuffle_routing(groups: int, width: int) -> Tensor:
    """T_ij(k) = 1 if k = i else 0, k the sub-group of c/G channels (Eq. 4): Y_i takes sub-group i of every X_j.

    Within Y_i the channels are interleaved, first those of X_1, X_2, ..., as in ShuffleNet: the channels of all X_j are
    dealt out in turn, to Y_1 until it is full, then to Y_2, which also says what happens where G does not divide c.
    """
    routing = torch.zeros(groups * width, groups * width)
    row = 0
    for n in range(width):
        for j in range(groups):
            routing[row, j * width + n] = 1
            row += 1
    return routing


def dropout_routing(groups: int, width: int) -> Tensor:
    """Channel dropout: the same 1/G of every X_j reaches every Y_i. Paper silent on which: the first sub-group.

    Where G does not divide the width, the first groups keep one channel more.
    """
    routing = torch.zeros(groups * width, groups * width)
    for i in range(groups):
        row = i * width
        for j in range(groups):
            for n in range(width):
                if n * groups + j < width:
                    routing[row, j * width + n] = 1
                    row += 1
    return routing


def channelwise_routing(vectors: Tensor) -> Tensor:
    """Y_i = sum_j T_ij . X_j, every T_ij a vector of c elements (Fig. 2), as one matrix; vectors: (G_t, G_s, c)."""
    rows, columns, width = vectors.shape
    blocks = []
    for i in range(rows):
        for n in range(width):
            row = [torch.zeros((), dtype=vectors.dtype) for _ in range(columns * width)]
            for j in range(columns):
                row[j * width + n] = vectors[i, j, n]
            blocks.append(torch.stack(row))
    return torch.stack(blocks)


def temporal_shift(clip: Tensor, shift_div: int = 8) -> Tensor:
    """TSM: the first 1/shift_div of the channels come from the next frame, the second from the one before, else same.

    out[:, :-1] = x[:, 1:] for the first fold, out[:, 1:] = x[:, :-1] for the second; zeros at the clip's ends.
    """
    batch, channels, frames, _, _ = clip.shape
    fold = channels // shift_div
    out = torch.zeros_like(clip)
    for b in range(batch):
        for c in range(channels):
            for t in range(frames):
                source = t + 1 if c < fold else t - 1 if c < 2 * fold else t
                if 0 <= source < frames:
                    out[b, c, t] = clip[b, c, source]
    return out


def widths(channels: int, groups: int) -> list[int]:
    """Even groups; the first takes the remainder, and from 64 channels on the others are multiples of 4."""
    width = channels // groups
    while channels >= 64 and width % 4:
        width -= 1
    return [channels - width * (groups - 1)] + [width] * (groups - 1)


def offsets(span: int, dilated: bool) -> list[int]:
    """Where the taps of a centred kernel lie: all of its span, or 3 of them, (span - 1) / 2 apart, if dilated."""
    reach = (span - 1) // 2
    return [-reach, 0, reach] if dilated and span > 3 else list(range(-reach, reach + 1))


def mix_channels(x: Map, matrix: Tensor) -> Map:
    """A 1x1 convolution without bias: out[c] = sum_k matrix[c, k] x[k]."""
    rows = entries(matrix)
    return [
        [
            [[added(row[k] * frame[k][y][p] for k in range(len(frame))) for p in pixels(frame)] for y in lines(frame)]
            for row in rows
        ]
        for frame in x
    ]


def spatial_conv_2d(x: Map, kernel: Tensor, rows: list[int], columns: list[int]) -> Map:
    """out[c, y, p] = sum_k sum_dy sum_dp kernel[c, k, dy, dp] x[k, y + dy, p + dp], zeros beyond the border."""
    assert tuple(kernel.shape[2:]) == (len(rows), len(columns))
    taps = entries(kernel)
    out = []
    for frame in x:
        height, width = len(frame[0]), len(frame[0][0])
        planes = []
        for c in range(len(taps)):
            plane = []
            for y in range(height):
                line = []
                for p in range(width):
                    terms = [torch.zeros_like(frame[0][0][0])]
                    for k in range(len(frame)):
                        for a, dy in enumerate(rows):
                            for b, dp in enumerate(columns):
                                if 0 <= y + dy < height and 0 <= p + dp < width:
                                    terms.append(taps[c][k][a][b] * frame[k][y + dy][p + dp])
                    line.append(added(terms))
                plane.append(line)
            planes.append(plane)
        out.append(planes)
    return out


def temporal_conv(x: Map, kernel: Tensor, times: list[int]) -> Map:
    """out[t, c] = sum_k sum_dt kernel[c, k, dt] x[t + dt, k], zeros before the first and after the last frame."""
    assert kernel.shape[2] == len(times)
    taps = entries(kernel)
    out = []
    for t in range(len(x)):
        planes = []
        for c in range(len(taps)):
            plane = []
            for y in lines(x[t]):
                line = []
                for p in pixels(x[t]):
                    terms = [torch.zeros_like(x[t][0][y][p])]
                    for k in range(len(x[t])):
                        for a, dt in enumerate(times):
                            if 0 <= t + dt < len(x):
                                terms.append(taps[c][k][a] * x[t + dt][k][y][p])
                    line.append(added(terms))
                plane.append(line)
            planes.append(plane)
        out.append(planes)
    return out


def spatial_pool(x: Map, kind: str) -> Map:
    """Maximum or mean of the 3x3 pixels around each, of those that exist. Paper silent on the border."""
    out = []
    for frame in x:
        height, width = len(frame[0]), len(frame[0][0])
        planes = []
        for plane in frame:
            pooled = []
            for y in range(height):
                line = []
                for p in range(width):
                    near = []
                    for dy in (-1, 0, 1):
                        for dp in (-1, 0, 1):
                            if 0 <= y + dy < height and 0 <= p + dp < width:
                                near.append(plane[y + dy][p + dp])
                    line.append(pooled_value(near, kind))
                pooled.append(line)
            planes.append(pooled)
        out.append(planes)
    return out


def temporal_pool(x: Map, kind: str) -> Map:
    """Maximum or mean of the 3 frames around each, of those that exist. Paper silent on the clip's ends."""
    out = []
    for t in range(len(x)):
        planes = []
        for c in range(len(x[t])):
            plane = []
            for y in lines(x[t]):
                line = []
                for p in pixels(x[t]):
                    near = [x[t + dt][c][y][p] for dt in (-1, 0, 1) if 0 <= t + dt < len(x)]
                    line.append(pooled_value(near, kind))
                plane.append(line)
            planes.append(plane)
        out.append(planes)
    return out


def batch_norm(x: Map, layer: NormedConv, training: bool) -> Map:
    """(x - mean) / sqrt(var + eps) * gamma + beta; in training, mean and var over clips, frames and pixels."""
    out: Map = [[[[] for _ in lines(x[0])] for _ in x[0]] for _ in x]
    for c in range(len(x[0])):
        mean, var = layer.mean[c], layer.var[c]
        if training:
            values = [x[t][c][y][p] for t in range(len(x)) for y in lines(x[0]) for p in pixels(x[0])]
            count = len(values) * len(values[0])
            mean = added(values).sum() / count
            var = added((value - mean) ** 2 for value in values).sum() / count
        for t in range(len(x)):
            for y in lines(x[0]):
                for p in pixels(x[0]):
                    normed = (x[t][c][y][p] - mean) / torch.sqrt(var + BN_EPS)
                    out[t][c][y].append(normed * layer.gamma[c] + layer.beta[c])
    return out


def relu(x: Map) -> Map:
    """max(x, 0)."""
    return [[[[value * (value > 0) for value in line] for line in plane] for plane in frame] for frame in x]


def split(x: Map, group_widths: list[int]) -> list[Map]:
    """X = X_1 + ... + X_G along the channels."""
    groups = []
    for i, width in enumerate(group_widths):
        first = sum(group_widths[:i])
        groups.append([frame[first : first + width] for frame in x])
    return groups


def concatenate(groups: list[Map]) -> Map:
    """Undo `split`."""
    return [[plane for group in groups for plane in group[t]] for t in range(len(groups[0]))]


def to_map(clip: Tensor) -> Map:
    """(B, C, T, H, W) -> [t][c][y][x]."""
    _, channels, frames, height, width = clip.shape
    return [
        [[[clip[:, c, t, y, p] for p in range(width)] for y in range(height)] for c in range(channels)]
        for t in range(frames)
    ]


def to_tensor(x: Map) -> Tensor:
    """[t][c][y][x] -> (B, C, T, H, W)."""
    frames = [
        torch.stack([torch.stack([torch.stack(line, -1) for line in plane], -2) for plane in frame], 1) for frame in x
    ]
    return torch.stack(frames, 2)


def entries(array: Tensor) -> list:
    """An array as nested lists of scalars."""
    return [entries(part) for part in array] if array.ndim > 1 else list(array.unbind())


def lines(frame: list) -> range:
    """Rows of a frame."""
    return range(len(frame[0]))


def pixels(frame: list) -> range:
    """Columns of a frame."""
    return range(len(frame[0][0]))


def added(terms) -> Tensor:
    """The sum, term by term."""
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total


def pooled_value(near: list[Tensor], kind: str) -> Tensor:
    """Maximum or mean."""
    if kind == "avg":
        return added(near) / len(near)
    largest = near[0]
    for value in near[1:]:
        largest = torch.where(value > largest, value, largest)
    return largest


def average(channel: Tensor) -> Tensor:
    """Mean over T, H and W of one channel of one clip."""
    return added(value for frame in channel for line in frame for value in line) / math.prod(channel.shape)


def dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """a . b."""
    return added(x * y for x, y in zip(a, b, strict=True))


def spatiotemporal_motion(
    clip: Tensor, taps: Tensor, kernel: Tensor, reduce: Tensor, transform: Tensor, expand: Tensor, stride: int
) -> Tensor:
    """STM, CSTM(X) + CMM(X) (Jiang et al., ICCV 2019), zeros beyond the clip and the map.

    taps (C, 3), kernel (C, C, 3, 3), reduce (R, C), transform (R, 3, 3), expand (C, R).
    """
    x = to_map(clip)
    frames, height, width = len(x), len(lines(x[0])), len(pixels(x[0]))
    mixed = [
        [
            [
                [
                    added(taps[c, k] * x[t + k - 1][c][y][p] for k in range(3) if 0 <= t + k - 1 < frames)
                    for p in pixels(x[0])
                ]
                for y in lines(x[0])
            ]
            for c in range(len(taps))
        ]
        for t in range(frames)
    ]
    reduced = mix_channels(x, reduce)
    motion = []
    for t in range(frames):
        frame = []
        for r in range(len(reduce)):
            plane = [[clip.new_zeros(len(clip)) for _ in range(width)] for _ in range(height)]
            for y in range(height if t + 1 < frames else 0):
                for p in range(width):
                    near = added(
                        transform[r, i, j] * reduced[t + 1][r][y + i - 1][p + j - 1]
                        for i in range(3)
                        for j in range(3)
                        if 0 <= y + i - 1 < height and 0 <= p + j - 1 < width
                    )
                    plane[y][p] = near - reduced[t][r][y][p]
            frame.append(plane)
        motion.append(frame)
    spatial = spatial_conv_2d(mixed, kernel, [-1, 0, 1], [-1, 0, 1])
    whole = to_tensor(spatial) + to_tensor(mix_channels(motion, expand))
    return whole[..., ::stride, ::stride]
