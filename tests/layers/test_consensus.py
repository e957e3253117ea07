"""TRN's relations against plain loops, and the consensus of a VideoNet."""

from itertools import combinations

import pytest
import timm
import torch

from timm_video_psn import VideoNet
from timm_video_psn.layers.consensus import MultiScaleRelation, create_consensus


def relation_by_loops(relations: MultiScaleRelation, x: torch.Tensor, subsets: list[list[tuple[int, ...]]]):
    """`RelationModuleMultiScale.forward` of zhoubolei/TRN-pytorch, with subsets drawn before."""
    total = torch.zeros(len(x), relations.num_classes, dtype=x.dtype)
    for relation, drawn in zip(relations.relations, subsets, strict=True):
        for subset in drawn:
            row = torch.cat([x[:, t] for t in subset], dim=1).clamp(min=0)
            row = (row @ relation[1].weight.T + relation[1].bias).clamp(min=0)
            total = total + row @ relation[3].weight.T + relation[3].bias
    return total


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_sums_the_relations_of_subsets_of_every_size(frames):
    relations = MultiScaleRelation(4, frames, 3).double().eval()
    x = torch.randn(2, frames, 4, dtype=torch.float64)
    every = [list(combinations(range(frames), size)) for size in range(frames, 1, -1)]
    chosen = [relations._draw(subsets) for subsets in every]
    assert [len(each) for each in chosen] == [min(3, len(subsets)) for subsets in every]
    torch.testing.assert_close(relations(x), relation_by_loops(relations, x, chosen))
    assert torch.equal(relations(x), relations(x))


def test_training_draws_other_subsets_each_time_and_reaches_all():
    relations = MultiScaleRelation(4, 5, 3).train()
    pairs = list(combinations(range(5), 2))
    drawn = {subset for _ in range(60) for subset in relations._draw(pairs)}
    assert drawn == set(pairs)
    assert all(len(set(relations._draw(pairs))) == 3 for _ in range(20))


def test_a_video_net_relates_features_instead_of_averaging_logits():
    model = VideoNet("test_resnet", "tsn", num_frames=4, num_classes=5, consensus="trn", consensus_features=8).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    logits = model(clip)
    assert logits.shape == (2, 5)
    assert model.backbone.fc.out_features == 8
    assert not torch.allclose(model(clip.flip(2)), logits, atol=1e-6)  # TSN's average would not care
    torch.testing.assert_close(model.forward_head(model.forward_features(clip)), logits)
    torch.testing.assert_close(torch.cat([model(one[None]) for one in clip]), logits)
    model.reset_classifier(7)
    assert (model.num_classes, model(clip).shape) == (7, (2, 7))
    assert [layer.out_features for layer in model.get_classifier()] == [7, 7, 7]
    assert model.get_classifier(name_only=True)[0] == "consensus.relations.0.3"


def test_relations_are_for_clips_of_one_length():
    model = VideoNet("test_resnet", "tsn", num_frames=4, num_classes=5, consensus="trn")
    text = "clips of 3 frames, but TRN is built for 4; use clips of 4 frames"
    for attempt in (lambda: model(torch.randn(1, 3, 3, 32, 32)), lambda: model.set_num_frames(3)):
        with pytest.raises(ValueError, match=text):
            attempt()
    with pytest.raises(ValueError, match="num_frames=1: TRN relates frames"):
        VideoNet("test_resnet", "tsn", num_frames=1, consensus="trn")


def test_an_unknown_consensus_is_named_with_the_known_ones():
    assert create_consensus("average", 8, 4, 5) is None
    with pytest.raises(ValueError, match="consensus='mean' is unknown; use one of average, trn"):
        timm.create_model("tsn_test_resnet", consensus="mean")


def test_relations_of_frames_that_a_stride_in_time_drops_are_refused():
    with pytest.raises(ValueError, match="relates all 8 frames, but temporal='i3d' strides in time"):
        VideoNet("resnet18", "i3d", num_frames=8, consensus="trn")
