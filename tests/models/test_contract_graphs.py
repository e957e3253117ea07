"""The other half of timm's contract: every registered name as a graph - TorchScript, fx, compile, export."""

import copy
import io

import pytest
import torch
from timm.layers import set_scriptable
from timm.models import FeatureGraphNet
from timm.models._features_fx import create_feature_extractor, get_graph_node_names


@pytest.mark.usefixtures("compiler")
def test_torchscript_takes_it_and_refuses_other_lengths(case, model, short):
    scriptable = case.build(scriptable=True).eval()
    scriptable.load_state_dict(model.state_dict())
    others = [short.repeat(1, 1, 2, 1, 1), short[:, :, :1], short[:, :, 0]]
    if case.takes_any_length:
        scriptable(others[0])  # what the model saw last is not what it is scripted for
    with set_scriptable(True):
        scripted = torch.jit.script(scriptable)
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    scripted = torch.jit.load(file)
    torch.testing.assert_close(scripted(short), model(short))
    torch.testing.assert_close(scripted(short[:1]), model(short[:1]))
    for other in others:
        if case.label.startswith("tsn"):  # nothing in it depends on the length
            torch.testing.assert_close(scripted(other), model(other))
        else:
            with pytest.raises(torch.jit.Error, match="frames, but TorchScript has fixed this model to clips of 2"):
                scripted(other)


def test_timms_feature_graph_gives_the_levels(case, model, short):
    node = model.feature_info[2]["module"]
    seen = []
    handle = model.get_submodule(node).register_forward_hook(lambda module, args, output: seen.append(output))
    graph = create_feature_extractor(model, {node: "level"})
    clips = [short, short[:, :, :1], short.repeat(1, 1, 2, 1, 1)] if case.takes_any_length else [short]
    for clip in clips:
        model(clip)
        if case.takes_any_length:
            model(clip[:, :, :1])  # the graph shares the modules, and tells them the length itself
        expected = seen[-2 if case.takes_any_length else -1]
        seen.clear()
        assert torch.equal(graph(clip)["level"], expected)
    handle.remove()
    whole = create_feature_extractor(model, get_graph_node_names(model)[1][-1:])
    assert torch.equal(*whole(short).values(), model(short))


def test_feature_graphs_are_built_by_name(case, model, short):
    net = case.build(features_only=True, feature_cls="fx", out_indices=(1, 2)).eval()
    assert isinstance(net, FeatureGraphNet)
    for level, info in zip(net(short), model.feature_info[1:3], strict=True):
        assert level.shape[:2] == (4, info["num_chs"])  # of the folded frames


@pytest.mark.usefixtures("compiler")
def test_compiles_in_one_graph(case, model, short):
    expected = model(short)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(short), expected)


@pytest.mark.usefixtures("compiler")
def test_exports_with_any_number_of_clips(case, model, short):
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(model, (short,), dynamic_shapes=(batch,)).module()
    for clips in (short, torch.randn(5, *short.shape[1:])):
        torch.testing.assert_close(exported(clips), model(clips))
