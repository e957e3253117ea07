"""The report of what does not fit."""

import torch

from timm_video_psn.surgery import find_mismatch


def state(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_names_and_shapes_that_differ_are_listed_by_kind():
    own = state(weight=(3, 2), bias=(3,), scale=(1,))
    found = state(weight=(4, 2), bias=(3,), shift=(1,))
    mismatch = find_mismatch(own, found)
    assert (mismatch.missing, mismatch.unknown) == (("scale",), ("shift",))
    assert str(mismatch) == "1 missing: scale; 1 unknown: shift; 1 of another shape: weight (4, 2) for (3, 2)"
    assert not find_mismatch(own, own)


def test_a_missing_counter_of_batches_is_no_mismatch_an_unknown_one_is():
    counted, uncounted = state(weight=(1,), num_batches_tracked=()), state(weight=(1,))
    assert not find_mismatch(counted, uncounted)
    assert find_mismatch(uncounted, counted).unknown == ("num_batches_tracked",)


def test_optional_names_may_differ_in_any_way():
    own, found = state(fc=(5, 2), fc_bias=(5,)), state(fc=(3, 2), fc_norm=(2,))
    assert find_mismatch(own, found)
    assert not find_mismatch(own, found, optional=lambda name: name.startswith("fc"))


def test_long_lists_are_cut():
    own = state(**{f"layer{i}": (1,) for i in range(7)})
    assert str(find_mismatch(own, {})).endswith("layer4 and 2 more")
