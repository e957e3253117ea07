"""Kernel shapes and effective receptive fields, against stacks of convolutions whose fields are known."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from timm_video_psn.insights.kernel_shapes import (
    ReceptiveField,
    draw_kernel_shapes,
    kernel_shapes,
    receptive_field,
    save_kernel_shapes,
    synthesizer_fields,
)
from timm_video_psn.interactions import InteractionMap


def ones(size: tuple[int, int, int], dilation: int = 1) -> nn.Conv3d:
    conv = nn.Conv3d(1, 1, size, padding="same", dilation=dilation, bias=False)
    nn.init.ones_(conv.weight)
    return conv


def test_shares_are_summed_over_the_kernels_of_a_size():
    norms = np.array([[1.0, 2, 3], [4, 5, 6]])
    one = InteractionMap(norms, ("T-C-3", "T-M-3"), ("S-I-1", "S-C-3", "S-M-3"), np.ones((2, 3), dtype=int))
    found = kernel_shapes({"layer1": one})["layer1"]
    assert (found.temporal_sizes, found.spatial_sizes) == (("3",), ("1", "3"))
    assert found.shares.tolist() == [[5 / 21, 16 / 21]]


def test_the_field_of_stacked_convolutions_is_that_of_their_product():
    stack = nn.Sequential(ones((3, 1, 1)), ones((3, 3, 3)))
    field = receptive_field(stack, torch.randn(2, 1, 9, 9, 9))
    in_time = np.array([1, 2, 3, 2, 1]) ** 2  # squares of the product's taps
    assert field.profile(0) == pytest.approx(np.pad(in_time / in_time.sum(), 2), abs=1e-6)
    assert field.profile(1) == pytest.approx(np.pad(np.full(3, 1 / 3), 3), abs=1e-6)
    assert field.extent() == (5, 3, 3)  # 18 of 19 are less than 95 %
    assert field.extent(share=0.89) == (3, 3, 3)  # 17 of 19
    assert field.energy.sum() == pytest.approx(1)


def test_a_dilated_kernel_has_holes():
    field = receptive_field(ones((3, 1, 1), dilation=3), torch.randn(1, 1, 9, 3, 3))
    assert np.flatnonzero(field.profile(0)).tolist() == [1, 4, 7]


def test_what_depends_on_nothing_has_no_field():
    with pytest.raises(ValueError, match="depends on nothing"):
        receptive_field(lambda x: x * 0, torch.randn(1, 1, 3, 3, 3))


def test_the_field_of_a_synthesizer_with_one_path_is_that_of_its_two_kernels():
    model = timm.create_model("psn_test_resnet", proportion=0.5, expand_init=1.0, sites="layer1", num_frames=9)
    synthesizer = model.get_submodule(model.sites["layer1"]).temporal
    rows, columns = (np.cumsum([0, *bank.widths]) for bank in (synthesizer.temporal_bank, synthesizer.spatial_bank))
    to, source = synthesizer.temporal_bank.labels.index("T-C-7"), synthesizer.spatial_bank.labels.index("S-I-1")
    weight = synthesizer.fusion.weight
    kept = torch.zeros_like(weight)
    kept[rows[to] : rows[to + 1], columns[source] : columns[source + 1]] = 1
    with torch.no_grad():
        weight.mul_(kept)
    field = synthesizer_fields(model, torch.randn(1, 3, 9, 32, 32))["layer1"]
    assert np.flatnonzero(field.profile(0)).tolist() == [1, 4, 7]
    centre = field.energy.shape[1] // 2
    assert field.energy[:, centre, centre].sum() == pytest.approx(1)


def test_synthesizers_that_add_nothing_have_no_field(tmp_path):
    model = timm.create_model("psn_test_resnet", proportion=0.5)
    assert synthesizer_fields(model, torch.randn(1, 3, 4, 32, 32)) == {}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_picture_and_the_table(tmp_path):
    one = InteractionMap(np.ones((2, 2)), ("T-I-1", "T-C-3"), ("S-I-1", "S-C-3"), np.ones((2, 2), dtype=int))
    shapes = kernel_shapes({"stem": one, "layer1": one})
    fields = {"stem": ReceptiveField(np.full((3, 4, 4), 1 / 48))}
    with Image.open(draw_kernel_shapes(shapes, fields, tmp_path / "shapes.png")) as picture:
        assert picture.size == (540, 660)
    lines = save_kernel_shapes(shapes, fields, tmp_path / "shapes.csv").read_text().splitlines()
    assert lines[1] == "stem,1,1,0.25,3,4,4"
    assert lines[-1] == "layer1,3,3,0.25,,,"


def test_other_layouts_have_fields_too():
    model = timm.create_model("video_net", backbone="test_vit", temporal="psn", proportion=0.5, expand_init=1.0)
    size = model.pretrained_cfg["input_size"][-1]
    fields = synthesizer_fields(model, torch.randn(1, 3, 4, size, size), draws=2)
    assert list(fields) == list(model.sites)
    assert all(field.energy.shape[0] == 4 for field in fields.values())
