"""Interaction maps: routings made by hand, the order and scales of Fig. 5, histories of runs."""

import csv

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from tests.insights.tiny_runs import assert_all_is_in_the_picture
from timm_video_psn.insights.kernel_map import (
    animate_history,
    draw_kernel_maps,
    kernel_codes,
    kernel_maps,
    read_history,
    save_kernel_maps,
    start_maps,
)
from timm_video_psn.interactions import interaction_map
from timm_video_psn.layers import ActionPerceptronSynthesizer

LABELS = {  # as training writes them
    "layer1/temporal_labels": np.array(["T-I-1", "T-C-3", "T-M-3"]),
    "layer1/spatial_labels": np.array(["S-I-1", "S-C-3"]),
}


def by_hand() -> nn.Module:
    """T with ones from the identity to the 3-tap kernel, and twos from the 3x3 kernel to the identity."""
    synthesizer = ActionPerceptronSynthesizer(9, 2, 1.0, receptive_field=(3, 3, 3))
    assert synthesizer.spatial_bank.widths == synthesizer.temporal_bank.widths == (3, 3, 3)
    with torch.no_grad():
        synthesizer.fusion.weight.zero_()
        synthesizer.fusion.weight[3:6, 0:3] = 1
        synthesizer.fusion.weight[0:3, 3:6] = -2
    return nn.Sequential(synthesizer)


def test_a_routing_made_by_hand_gives_the_map_in_the_order_of_the_paper():
    (site,) = kernel_maps(by_hand()).values()
    assert site.temporal_labels == ("T-C-3", "T-M-3", "T-I-1")
    assert site.spatial_labels == ("S-C-3", "S-M-3", "S-I-1")
    assert site.norms.tolist() == [[0, 0, 9], [0, 0, 0], [18, 0, 0]]


def test_per_element_divides_by_the_size_of_each_block():
    model = timm.create_model("psn_resnet18")
    site = kernel_maps(model)["stem"]
    fusion = model.get_submodule(model.sites["stem"]).temporal.fusion
    assert fusion.out_widths == (4, 3, 3, 3, 3)  # of 16 channels, the identity has the rest
    assert site.sizes.tolist() == [[12, 12, 12, 12]] * 4 + [[16, 16, 16, 16]]
    shares = kernel_maps(model, per_element=True)["stem"].norms
    block = fusion.weight.detach().abs()[:4, :4]  # identity to identity, which comes last
    assert shares[-1, -1] == pytest.approx(block.mean().item(), rel=1e-6)


def test_every_row_has_its_name_and_sites_come_in_their_order(tmp_path, figures):
    every, one = (kernel_maps(timm.create_model("psn_test_resnet", proportion=0.5, sites=s)) for s in (None, "layer2"))
    draw_kernel_maps({"with one site": one, "a name that is longer than its row is high": every}, tmp_path / "maps.png")
    (figure,) = figures
    shown = [axes for axes in figure.axes if axes.yaxis.label.get_text()]
    assert [axes.yaxis.label.get_text().replace("\n", " ") for axes in shown] == [
        "with one site",
        "a name that is longer than its row is high",
    ]
    upper, lower = (axes.yaxis.label.get_window_extent() for axes in shown)
    assert upper.y0 > lower.y1
    assert [axes.get_title() for axes in figure.axes[:4]] == ["stem", "layer1", "layer2", "layer3"]
    assert_all_is_in_the_picture(figure)


def test_the_title_of_a_single_map_is_not_cut(tmp_path, figures):
    draw_kernel_maps({"one": kernel_maps(timm.create_model("psn_test_resnet", sites="layer2"))}, tmp_path / "maps.png")
    assert_all_is_in_the_picture(*figures)


def test_axes_are_those_of_fig_5():
    site = kernel_maps(timm.create_model("psn_resnet18"))["layer1"]
    assert site.temporal_labels == ("T-C-3", "T-C-5", "T-C-7", "T-M-3", "T-I-1")
    assert site.spatial_labels == ("S-C-3", "S-C-5", "S-M-3", "S-I-1")


def test_models_of_other_backbones_and_sites_go_into_one_picture(tmp_path, costly):
    models = {
        "resnet": timm.create_model("psn_test_resnet", proportion=0.5),
        "vit": timm.create_model("video_net", backbone="test_vit", temporal="psn", proportion=0.5),
    }
    maps = {name: kernel_maps(model) for name, model in models.items()}
    columns = len(set(maps["resnet"]) | set(maps["vit"]))
    with Image.open(draw_kernel_maps(maps, tmp_path / "maps.png")) as picture:
        assert picture.size == (round(60 + 240 * columns), 430)
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_the_table_holds_every_block(tmp_path):
    path = save_kernel_maps({"hand": kernel_maps(by_hand())}, tmp_path / "maps.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    (row,) = [row for row in rows if float(row["l1_norm"]) == 18]
    assert (row["temporal"], row["spatial"], row["elements"]) == ("T-I-1", "S-C-3", "9")


def test_a_model_without_synthesizers_is_told_apart():
    with pytest.raises(ValueError, match=r"VideoNet has no synthesizer.*temporal='psn'"):
        kernel_maps(timm.create_model("tsn_test_resnet"))


def test_the_epochs_of_a_run_become_an_animation(tmp_path):
    norms = np.arange(3 * 3 * 2, dtype=np.float32).reshape(3, 3, 2)
    np.savez(tmp_path / "interactions.npz", epoch=np.array([0, 1, 2]), layer1=norms, stem=norms[:, :2], **LABELS)
    history = read_history(tmp_path)
    assert history.epochs.tolist() == [0, 1, 2]
    assert history.norms["layer1"].shape == (3, 3, 2)
    assert history.temporal_labels["layer1"] == ("T-I-1", "T-C-3", "T-M-3")
    assert history.temporal_labels["stem"] == ("T0", "T1")  # the file's names do not fit
    with Image.open(animate_history(history, tmp_path / "maps.gif", title="run")) as film:
        assert film.n_frames == 3
        assert film.size == (540, 240)


def test_other_files_are_no_history(tmp_path):
    with pytest.raises(FileNotFoundError, match="only runs of models with synthesizers have it"):
        read_history(tmp_path)
    file = tmp_path / "interactions.npz"
    np.savez_compressed(file, epoch=np.arange(2), layer1=np.random.default_rng(0).random((2, 5, 4)))
    whole = file.read_bytes()
    for damaged in (b"no archive", b"", whole[:200]):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged or not an interactions\.npz"):
            read_history(tmp_path)
    np.savez(tmp_path / "interactions.npz", epoch=np.arange(2), layer1=np.zeros((3, 5, 4)))
    with pytest.raises(ValueError, match=r"expected `epoch` .* found epoch \[2\], layer1 \[3, 5, 4\]"):
        read_history(tmp_path)


def test_codes_are_put_into_words():
    codes = kernel_codes(kernel_maps(timm.create_model("psn_resnet18", pool="avg")))
    assert codes["S-C-3"] == "spatial convolution, 3 x 3 pixels of the site's map"
    assert codes["S-A-3"] == "spatial average pooling, 3 x 3 pixels of the site's map"
    assert codes["T-C-7"] == "temporal convolution, 7 frames"
    assert codes["T-I-1"] == "temporal identity: the features pass unchanged"


def test_a_cell_shows_its_change_since_the_start_of_training(tmp_path, figures):
    model = timm.create_model("psn_test_resnet", proportion=0.5, sites="layer1")
    site = interaction_map(model)["layer1"]
    sides = {"layer1/temporal_labels": site.temporal_labels, "layer1/spatial_labels": site.spatial_labels}
    labels = {name: np.array(values) for name, values in sides.items()}
    halves = np.stack([site.norms / 2, site.norms])
    np.savez(tmp_path / "interactions.npz", epoch=np.arange(2), layer1=halves, **labels)
    maps, history = kernel_maps(model), read_history(tmp_path)
    starts = start_maps(history, maps)
    np.testing.assert_allclose(starts["layer1"].norms, maps["layer1"].norms / 2)
    assert starts["layer1"].temporal_labels == maps["layer1"].temporal_labels
    draw_kernel_maps({"run": maps}, tmp_path / "maps.png", starts={"run": starts})
    (figure,) = figures
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert len(cells) == site.norms.size
    assert all(cell.endswith("\n+100 %") for cell in cells)
    np.savez(tmp_path / "interactions.npz", epoch=np.arange(1, 3), layer1=halves, **labels)
    assert start_maps(read_history(tmp_path), maps) == {}  # an older run, which did not keep its start
