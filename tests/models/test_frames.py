"""The length of clips: how it reaches temporal modules in traced, scripted, compiled and checkpointed models."""

import copy
import io
import re

import pytest
import timm
import torch
from timm.models._features_fx import create_feature_extractor, get_graph_node_names
from torch import nn

from tests.models.light_models import RESNETS, build, settle
from timm_video_psn import auxiliary_losses
from timm_video_psn.models import frames
from timm_video_psn.models.frames import average, fold, fold_fixed, unfold


def test_features_unfold_to_what_was_folded(clip):
    frames = fold(nn.Identity(), clip)
    assert frames.shape == (8, 3, 32, 32)
    assert torch.equal(frames[5], clip[1, :, 1])
    assert torch.equal(unfold(frames, clip), clip)
    assert torch.equal(unfold(frames.permute(0, 2, 3, 1), clip, "NHWC"), clip)
    assert torch.equal(unfold(frames.flatten(2), clip), clip.transpose(1, 2).flatten(3))  # as tokens (B, T, N, C)
    assert torch.equal(unfold(frames, frames), frames)


def test_predictions_are_averaged_over_the_frames_of_each_clip(clip):
    logits = torch.randn(8, 5)
    torch.testing.assert_close(average(logits, clip), torch.stack([logits[:4].mean(0), logits[4:].mean(0)]))
    assert torch.equal(average(logits, clip[:, :, 0]), logits)


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 2, 32, 32, 1, 1)])
def test_an_input_of_another_rank_is_named(shape):
    with pytest.raises(ValueError, match=r"input of shape \[3, .*expected clips \(B, C, T, H, W\) or images"):
        fold(nn.Identity(), torch.zeros(shape))


@pytest.fixture(scope="module")
def network():
    return timm.create_model("psn_test_resnet", num_frames=4, num_classes=5).eval()


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 8, 3, 64, 64), "got (1, 8, 3, 64, 64), which looks like (B, T, C, H, W): use clip.transpose(1, 2)"),
        ((1, 8, 64, 64, 3), "looks like (B, T, H, W, C): use clip.permute(0, 4, 1, 2, 3)"),
        ((3, 8, 64, 64), "looks like one clip (C, T, H, W): use clip[None]"),
        ((2, 64, 64, 3), "images are (B, C, H, W); got (2, 64, 64, 3), which looks like (B, H, W, C)"),
        ((1, 1, 8, 64, 64), "has 1 channels, and the model 3: use create_model(..., in_chans=1)"),
    ],
)
def test_a_clip_in_the_wrong_form_says_what_it_looks_like_and_what_mends_it(network, shape, text):
    for call in (network, network.forward_features):
        with pytest.raises(ValueError, match=re.escape(text)):
            call(torch.zeros(shape))
    mended = re.search(r"use clip(.*)", text)
    if mended:
        assert eval(f"network(torch.zeros(shape){mended[1]})").shape == (1, 5)


def test_bytes_are_told_how_to_become_clips(network):
    with pytest.raises(TypeError, match=r"got torch.uint8: use timm_video_psn.normalize_clip"):
        network(torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))


def test_a_replaced_first_convolution_takes_its_channels(network):
    changed = copy.deepcopy(network)
    changed.backbone.conv1[0] = nn.Conv2d(5, changed.backbone.conv1[0].out_channels, 3, 2, 1)
    assert changed(torch.zeros(1, 5, 4, 32, 32)).shape == (1, 5)


def test_the_check_of_the_input_adds_no_step_to_a_graph(network, compiler):
    clip = torch.zeros(2, 3, 4, 32, 32)
    dims = {0: torch.export.Dim("batch", min=1, max=64)}
    graphs = []
    for check in (frames.check_input, lambda backbone, x: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frames, "check_input", check)
            graph = torch.export.export(network, (clip,), dynamic_shapes=(dims,)).graph
            graphs.append([(node.op, str(node.target)) for node in graph.nodes])
    assert graphs[0] == graphs[1]


def test_features_of_another_rank_are_named(clip):
    with pytest.raises(ValueError, match=r"features of shape \[8, 3\] cannot be arranged by clip"):
        unfold(torch.zeros(8, 3), clip)


def test_a_fixed_length_is_checked(clip):
    assert torch.equal(fold_fixed(clip, 4), fold_fixed(clip, 0))
    with pytest.raises(ValueError, match="clips of 1 frames, but TorchScript has fixed this model to clips of 4"):
        fold_fixed(clip[:, :, 0], 4)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("label", RESNETS)
def test_a_traced_model_takes_clips_of_the_length_it_was_traced_with(label, clip):
    model = build(label, num_frames=8)
    traced = torch.jit.trace(model, clip)
    assert {type(m.num_frames) for m in model.modules() if hasattr(m, "num_frames")} == {int}
    for clips in (clip, clip[:1], torch.randn(3, 3, 4, 32, 32)):
        torch.testing.assert_close(traced(clips), model(clips))
    for other in (clip[:, :, :2], clip[:, :, 0], clip.repeat(1, 1, 2, 1, 1)):
        with pytest.raises(torch.jit.Error, match="fixed this model to clips of 4; use clips of that"):
            traced(other)


@pytest.mark.usefixtures("compiler")
def test_a_scripted_model_follows_set_num_frames(clip):
    model = build("psn_test_resnet", num_frames=8)
    model(clip)
    with pytest.raises(torch.jit.Error, match="clips of 4 frames, but TorchScript has fixed this model to clips of 8"):
        torch.jit.script(model)(clip)
    model.set_num_frames(4)
    torch.testing.assert_close(torch.jit.script(model)(clip), model(clip))


@pytest.mark.usefixtures("compiler")
def test_a_scripted_model_names_an_input_of_another_rank(clip):
    scripted = torch.jit.script(build("psn_test_resnet"))
    with pytest.raises(torch.jit.Error, match=r"expected clips .* or images .*a single clip needs a batch dimension"):
        scripted(clip[0, 0])


@pytest.mark.usefixtures("compiler")
def test_temporal_modules_among_tokens_are_refused_by_torchscript():
    model = timm.create_model("video_net", backbone="test_vit", proportion=0.5)
    with pytest.raises(NotImplementedError, match=r"temporal modules in VisionTransformer.* use torch.compile or"):
        torch.jit.script(model)


@pytest.mark.usefixtures("compiler")
def test_tsn_on_tokens_is_scripted():
    model = timm.create_model("video_net", backbone="test_vit", temporal="tsn", num_classes=5, scriptable=True).eval()
    clip = torch.randn(1, 3, 2, 160, 160)
    torch.testing.assert_close(torch.jit.script(model)(clip), model(clip))


def test_a_feature_graph_of_a_transformer_is_its_forward_pass():
    model = timm.create_model("video_net", backbone="test_vit", proportion=0.5, num_classes=5, expand_init=1.0).eval()
    graph = create_feature_extractor(model, get_graph_node_names(model)[1][-1:])
    for shape in ((1, 3, 2, 160, 160), (2, 3, 3, 160, 160), (2, 3, 160, 160)):
        x = torch.randn(shape)
        assert torch.equal(*graph(x).values(), model(x))


def test_a_copied_and_a_pickled_graph_have_modules_of_their_own(clip):
    model = build("psn_test_resnet")
    graph = create_feature_extractor(model, ["backbone.layer2"])
    expected = graph(clip)["backbone.layer2"]
    file = io.BytesIO()
    torch.save(graph, file)
    file.seek(0)
    for other in (copy.deepcopy(graph), torch.load(file, weights_only=False)):
        assert torch.equal(other.eval()(clip)["backbone.layer2"], expected)  # torch copies it in training mode
        assert other.state_dict().keys() == graph.state_dict().keys()
    assert not any("traced_fold" in name for name in graph.state_dict())


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(("label", "num_frames"), [("psn_test_resnet", 8), ("tsm_test_resnet", 4)])
def test_compiled_models_take_clips_of_any_length(label, num_frames, clip):
    model = build(label, num_frames=num_frames)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(clip), model(clip))
    torch.testing.assert_close(compiled(clip[:, :, :3]), model(clip[:, :, :3]))


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_compiled_training_step_is_the_same_with_the_auxiliary_losses(checkpointing, clip):
    model = settle(build("psn_test_resnet"), clip).train()
    other = copy.deepcopy(model)
    other.set_grad_checkpointing(checkpointing)
    torch._dynamo.reset()
    # The "eager" backend cannot recompute a batch norm of timm's own models either.
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for net, call in ((model, model), (other, compiled)):
        (call(clip).square().sum() + 10 * sum(auxiliary_losses(net).values())).backward()
    torch.testing.assert_close(auxiliary_losses(other), auxiliary_losses(model))
    for (name, parameter), expected in zip(other.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad, msg=name)
