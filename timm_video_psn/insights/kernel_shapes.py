"""The kernels that the synthesizers have made: their shapes by weight, and how far they really see.

A path from a spatial kernel of size s to a temporal one of size t is a kernel of shape t x s x s (Eq. 1); its share is
the share of ||T_ij||_1 in the whole of T. The effective receptive field (Luo et al., 2016) asks the gradients instead:
how much of the energy of d output(centre) / d input lies where.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from timm_video_psn.files import write_csv
from timm_video_psn.insights.kernel_map import heat_map
from timm_video_psn.interactions import InteractionMap, synthesizers_by_site
from timm_video_psn.layers import ActionPerceptronSynthesizer
from timm_video_psn.layers.clip import fold_clip, unfold_clip
from timm_video_psn.plotting import new_figure, plain, save_figure


@dataclass(frozen=True)
class KernelShapes:
    """Shares of the shapes of one site: `shares` (temporal, spatial) add up to 1; pools count by their size."""

    shares: np.ndarray
    temporal_sizes: tuple[str, ...]
    spatial_sizes: tuple[str, ...]


@dataclass(frozen=True)
class ReceptiveField:
    """Where an output in the centre looks: shares of gradient energy, (T, H, W), that add up to 1."""

    energy: np.ndarray

    def profile(self, dim: int) -> np.ndarray:
        """The energy along one dimension, 0 for T, 1 for H, 2 for W."""
        return self.energy.sum(tuple({0, 1, 2} - {dim}))

    def extent(self, share: float = 0.95) -> tuple[int, int, int]:
        """Lengths (T, H, W) of the shortest intervals that each hold so much of the energy."""
        t, h, w = (_shortest(self.profile(dim), share) for dim in range(3))
        return t, h, w


def _shortest(profile: np.ndarray, share: float) -> int:
    """Length of the shortest interval whose values add up to the share of all."""
    sums = np.concatenate([[0.0], np.cumsum(profile / profile.sum())])
    for length in range(1, len(profile)):
        if (sums[length:] - sums[:-length]).max() >= share - 1e-9:
            return length
    return len(profile)


def kernel_shapes(maps: Mapping[str, InteractionMap]) -> dict[str, KernelShapes]:
    """The distribution of shapes of every site.

    Args:
        maps: Maps by site, see `kernel_maps`.
    """
    return {site: _shapes(one) for site, one in maps.items()}


def _shapes(one: InteractionMap) -> KernelShapes:
    temporal, spatial = (
        [label.split("-", 2)[2] for label in labels] for labels in (one.temporal_labels, one.spatial_labels)
    )
    rows, columns = (tuple(sorted(set(sizes), key=_by_number)) for sizes in (temporal, spatial))
    shares = np.zeros((len(rows), len(columns)))
    for i, t in enumerate(temporal):
        for j, s in enumerate(spatial):
            shares[rows.index(t), columns.index(s)] += one.norms[i, j]
    return KernelShapes(shares / max(shares.sum(), 1e-12), rows, columns)


def _by_number(size: str) -> list[int]:
    return [int(part) for part in size.split("x")]  # 3, or 3x5 where height and width differ


def receptive_field(function: Callable[[Tensor], Tensor], x: Tensor, draws: int = 8, seed: int = 0) -> ReceptiveField:
    """Measures where the centre of an output looks.

    The energy is the squared gradient of a random mix of the output's channels (signs of +1 and -1), summed over the
    input's channels and averaged over the clips and the draws.

    Args:
        function: Function from maps to maps.
        x: Maps at which it is measured: with ReLUs and max-pools inside, the field depends on it.
        draws: Number of mixes of channels.
        seed: Seed of the mixes.

    Shape:
        x: (B, C, T, H, W); function(x): (B, C', T', H', W')

    Raises:
        ValueError: The centre depends on nothing.
    """
    x = x.detach().requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    energy = torch.zeros(x.shape[2:], dtype=torch.float64)
    with torch.enable_grad():
        output = function(x)
        centre = output[:, :, output.shape[2] // 2, output.shape[3] // 2, output.shape[4] // 2]  # (B, C')
        for draw in range(draws):
            signs = (2 * torch.randint(2, (centre.shape[1],), generator=generator) - 1).to(centre)
            (gradient,) = torch.autograd.grad((centre * signs).sum(), x, retain_graph=draw < draws - 1)
            energy += gradient.double().pow(2).sum((0, 1)).cpu()
    if not energy.any():
        raise ValueError("the centre of the output depends on nothing in the input: all gradients are zero")
    return ReceptiveField((energy / energy.sum()).numpy())


def synthesizer_fields(model: nn.Module, clip: Tensor, draws: int = 8) -> dict[str, ReceptiveField]:
    """The effective receptive field of what each synthesizer adds, V of Eq. 1, in frames and pixels of its own map.

    Args:
        model: A video model with synthesizers; it is put into evaluation mode.
        clip: Normalised clips, at whose feature maps the fields are measured.
        draws: Number of mixes of channels.

    Shape:
        clip: (B, C, T, H, W)

    Returns:
        The fields by site, named as in `kernel_maps`. A synthesizer whose V is zero, as at initialisation, has no field
        and is left out.
    """
    modules = synthesizers_by_site(model)
    inputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, args, site=site: inputs.update({site: args[0].detach().clone()}))
        for site, module in modules.items()
    ]
    try:
        with torch.no_grad():
            model.eval()(clip)
    finally:
        for handle in handles:
            handle.remove()
    frames = clip.shape[2]
    return {
        site: receptive_field(_added_by(module, frames), unfold_clip(inputs[site], frames), draws)
        for site, module in modules.items()
        if module.expand.weight.any()
    }


def _added_by(module: ActionPerceptronSynthesizer, num_frames: int) -> Callable[[Tensor], Tensor]:
    """V as a function of U, both unfolded."""

    def added(x: Tensor) -> Tensor:
        return unfold_clip(module.expand(module.enhance(module.reduce(fold_clip(x)))), num_frames)

    return added


def draw_kernel_shapes(
    shapes: Mapping[str, KernelShapes],
    fields: Mapping[str, ReceptiveField],
    path: Path,
    title: str = "",
    starts: Mapping[str, KernelShapes] | None = None,
) -> Path:
    """Draws for each site the shares of the shapes, and the effective receptive field in time and in space.

    Args:
        shapes: See `kernel_shapes`.
        fields: See `synthesizer_fields`; sites may be missing.
        path: The PNG file.
        title: Text above the picture.
        starts: Shapes from before training; the cells then show the change since, in points.
    """
    figure = new_figure(0.6 + 2.4 * len(shapes), 6.6)
    axes = figure.subplots(3, len(shapes), squeeze=False)
    high = max(float(one.shares.max()) for one in shapes.values())
    for column, (site, one) in enumerate(shapes.items()):
        start = (starts or {}).get(site)
        changes = None if start is None else [[f"{100 * d:+.1f}" for d in row] for row in one.shares - start.shares]
        heat_map(axes[0, column], 100 * one.shares, one.temporal_sizes, one.spatial_sizes, 100 * high, 0.0, changes)
        axes[0, column].set_title(site, fontsize=9)
        _draw_field(axes[1:, column], fields.get(site))
    axes[0, 0].set_ylabel("temporal by spatial size,\n% of $\\sum$ ||T_ij||$_1$", fontsize=8)
    axes[1, 0].set_ylabel("gradient energy in time", fontsize=8)
    axes[2, 0].set_ylabel("gradient energy in space", fontsize=8)
    figure.suptitle(plain(title), fontsize=10)
    return save_figure(figure, path)


def _draw_field(axes: np.ndarray, field: ReceptiveField | None) -> None:
    """Its profile over the frames, and its picture summed over them."""
    in_time, in_space = axes
    if field is None:
        for axis in axes:
            axis.set_axis_off()
        in_time.text(0.5, 0.5, "V = 0: nothing is added", ha="center", transform=in_time.transAxes, fontsize=8)
        return
    profile = field.profile(0)
    in_time.bar(np.arange(len(profile)) - len(profile) // 2, profile, color="tab:blue")
    in_time.set_xlabel("frames from the centre", fontsize=7)
    t, h, w = field.extent()
    in_time.set_title(f"95 % within {t} x {h} x {w} (T x H x W)", fontsize=8)
    in_space.imshow(np.sqrt(field.energy.sum(0)), cmap="Blues")
    for axis in axes:
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.tick_params(labelsize=6)
    in_space.yaxis.get_major_locator().set_params(integer=True)


def save_kernel_shapes(shapes: Mapping[str, KernelShapes], fields: Mapping[str, ReceptiveField], path: Path) -> Path:
    """Writes the numbers: a line for each shape of each site, with the extent of the site's receptive field.

    Args:
        shapes: See `kernel_shapes`.
        fields: See `synthesizer_fields`; cells of sites that are missing stay empty.
        path: The CSV file.
    """
    rows = []
    for site, one in shapes.items():
        extent = fields[site].extent() if site in fields else ("", "", "")
        for i, temporal in enumerate(one.temporal_sizes):
            for j, spatial in enumerate(one.spatial_sizes):
                rows.append((site, temporal, spatial, f"{one.shares[i, j]:.6g}", *extent))
    header = ("site", "temporal_size", "spatial_size", "share", "field_t", "field_h", "field_w")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_csv(path, header, rows)
    return path
