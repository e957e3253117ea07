import numpy as np
import timm
import torch

import timm_video_psn
from timm_video_psn.engine.train.interaction_history import InteractionHistory


def psn():
    return timm.create_model("psn_test_resnet", num_classes=5, proportion=0.5)


def add(history, epoch, model):
    history.add(epoch, timm_video_psn.interaction_map(model), timm_video_psn.ir_interactions(model))


def read(path):
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_the_file_holds_the_maps_of_every_epoch_with_their_labels(tmp_path):
    model, path = psn(), tmp_path / "interactions.npz"
    history = InteractionHistory(path)
    expected = {site: [] for site in timm_video_psn.interaction_map(model)}
    for epoch in range(3):
        add(history, epoch, model)
        for site, each in timm_video_psn.interaction_map(model).items():
            expected[site].append(each.norms)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
    found = read(path)
    assert [path.name for path in tmp_path.iterdir()] == ["interactions.npz"]
    assert found["epoch"].tolist() == [0, 1, 2]
    assert found["sites"].tolist() == list(expected) == ["stem", "layer1", "layer2", "layer3"]
    for site, each in timm_video_psn.interaction_map(model).items():
        np.testing.assert_array_equal(found[site], np.stack(expected[site]))
        assert found[site].shape == (3, len(each.temporal_labels), len(each.spatial_labels))
        assert tuple(found[f"{site}/temporal_labels"]) == each.temporal_labels
        assert tuple(found[f"{site}/spatial_labels"]) == each.spatial_labels
    assert set(zip(found["irregular"], found["total"], strict=True)) == {timm_video_psn.ir_interactions(model)}


def test_a_resumed_run_goes_on_where_its_checkpoint_is(tmp_path):
    model, path = psn(), tmp_path / "interactions.npz"
    history = InteractionHistory(path)
    for epoch in range(4):  # killed after the third epoch was logged, before its checkpoint was written
        add(history, epoch, model)
    resumed = InteractionHistory(path, finished=2)
    add(resumed, 3, model)
    add(resumed, 3, model)
    whole = read(path)
    assert whole["epoch"].tolist() == [0, 1, 2, 3]
    assert len(whole["layer1"]) == len(whole["irregular"]) == 4
    add(InteractionHistory(path), 0, model)  # begun again from the start
    assert read(path)["epoch"].tolist() == [0]


def test_a_model_without_synthesizers_leaves_no_file(tmp_path):
    add(InteractionHistory(tmp_path / "interactions.npz"), 0, timm.create_model("tsn_test_resnet"))
    assert list(tmp_path.iterdir()) == []
