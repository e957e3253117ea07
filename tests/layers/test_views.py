"""Views of tokens and channels-last maps: what a temporal module sees there, and what passes by."""

import pytest
import torch
from torch import nn

from timm_video_psn.layers import ActionPerceptronSynthesizer
from timm_video_psn.layers.views import MAPS, EachItem, MapView, View


class Probe(nn.Module):
    """Keeps the map that it is shown, and returns a function of place, frame and channel that no mix-up survives."""

    def forward(self, x):
        self.seen = x
        return x * torch.arange(1, x[0].numel() + 1).reshape(x[0].shape)


def test_maps_with_channels_last_are_shown_as_maps_and_come_back():
    x, probe = torch.randn(6, 4, 5, 8), Probe()
    result = MapView(probe, "NHWC")(x)
    for b in range(6):
        for h in range(4):
            for w in range(5):
                assert torch.equal(probe.seen[b, :, h, w], x[b, h, w])
    assert torch.equal(result, probe(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(("grid", "image_size"), [((4, 4), (64, 64)), ((2, 6), (32, 96)), ((6, 2), (96, 32))])
def test_tokens_are_shown_by_rows_and_prefix_tokens_pass_by(prefix, grid, image_size):
    height, width = grid
    x, probe = torch.randn(3, prefix + height * width, 8), Probe()
    view = MapView(probe, "NLC", prefix)
    view.image_size = image_size
    result = view(x)
    assert torch.equal(result[:, :prefix], x[:, :prefix])
    for h in range(height):
        for w in range(width):
            token = prefix + h * width + w
            assert torch.equal(probe.seen[:, :, h, w], x[:, token])
            assert torch.equal(result[:, token], probe(probe.seen)[:, :, h, w])


def test_frames_whose_sides_are_no_multiples_of_the_patch_still_have_a_grid():
    view = MapView(nn.Identity(), "NLC")
    view.image_size = (224, 398)  # 16-pixel patches that drop the rest: 14 x 24
    assert view._grid(14 * 24) == (14, 24)


def test_tokens_in_another_order_are_shown_in_their_places():
    order = torch.randperm(12).reshape(3, 4)
    x, probe = torch.randn(2, 12, 8), Probe()
    result = MapView(probe, "NLC", order=order)(x)
    for h in range(3):
        for w in range(4):
            assert torch.equal(probe.seen[:, :, h, w], x[:, order[h, w]])
            assert torch.equal(result[:, order[h, w]], probe(probe.seen)[:, :, h, w])


def test_views_make_no_copy_of_what_they_show():
    """Maps with the channels last and tokens are channels_last memory already."""
    maps, tokens, probe = torch.randn(2, 4, 4, 8), torch.randn(2, 17, 8), Probe()
    MapView(probe, "NHWC")(maps)
    assert probe.seen.data_ptr() == maps.data_ptr()
    MapView(probe, "NLC", prefix=1)(tokens)
    assert probe.seen.data_ptr() == tokens[:, 1:].data_ptr()


@pytest.mark.parametrize("kind", [tuple, list])
def test_only_the_items_named_meet_a_module(kind):
    x = kind([torch.randn(2, 4, 3, 3), torch.randn(2, 1, 4), torch.randn(2, 8, 2, 2)])
    result = EachItem([Probe(), Probe()], [0, 2])(x)
    assert type(result) is kind
    assert torch.equal(result[1], x[1])
    for item in (0, 2):
        assert torch.equal(result[item], Probe()(x[item]))


def test_a_view_builds_a_module_for_each_of_its_items():
    built = View("NLC", prefix=1, items=((0, 32), (1, 64))).build(
        lambda channels: ActionPerceptronSynthesizer(channels, num_frames=2), channels=0
    )
    clips = [torch.randn(4, 17, 32), torch.randn(4, 5, 64)]
    assert [y.shape for y in built(clips)] == [x.shape for x in clips]
    plain = MAPS.build(lambda channels: ActionPerceptronSynthesizer(channels), channels=32)
    assert isinstance(plain, ActionPerceptronSynthesizer)


def test_tokens_that_make_no_map_are_refused():
    view = MapView(nn.Identity(), "NLC", prefix=1)
    with pytest.raises(ValueError, match=r"13 tokens do not form a map of aspect 1:1; use frames whose sides"):
        view(torch.randn(1, 14, 4))
    with pytest.raises(ValueError, match=r"9 tokens, but the model was built for 3 x 4"):
        MapView(nn.Identity(), "NLC", order=torch.arange(12).reshape(3, 4))(torch.randn(1, 9, 4))
    with pytest.raises(ValueError, match=r"kind='NCHW' is unknown; use 'NHWC' or 'NLC'"):
        MapView(nn.Identity(), "NCHW")
