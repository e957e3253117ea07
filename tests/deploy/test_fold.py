"""A folded model gives the logits of the model, whatever it is made of; the model itself stays as it is."""

import copy

import pytest
import timm
import torch
from torch import nn

import timm_video_psn
from timm_video_psn.deploy.residual import AddmmResidual
from timm_video_psn.deploy.routing import ConvFusion, SynthesizedKernels
from timm_video_psn.layers import FUSIONS, TemporalBank
from timm_video_psn.surgery import injected

FRAMES, SIZE = 4, 64
SYSTEMS = {
    "psn": {},
    "psn causal": {"temporal": "psn", "causal": True},
    "psn avg": {"temporal": "psn", "pool": "avg", "spatial_conv": "1+1d", "inter_act": False},
    "psn causal avg": {"temporal": "psn", "pool": "avg", "causal": True, "dilated": False},
    "psn no pool": {"temporal": "psn", "pool": "none", "receptive_field": (3, 7, 3)},
    **{name: {} for name in ("tsm", "tsn", "gsm", "tam", "rf_s", "rf_l", "rf_l_inception", "rf_l_inception_t")},
    "gst": {"backbone": "resnet26", "layers": (1, 1, 1, 1)},
    "tea": {"backbone": "resnet26", "layers": (1, 1, 1, 1)},
}
LEFT = {"gsm": 8}  # the gate's norm, which precedes a convolution, and the norm that the shift keeps from its own
BACKBONES = ("test_convnext", "test_efficientnet", "test_vit", "levit_128s", "fastvit_t8", "repvgg_a0")


def build(temporal: str, backbone: str = "test_resnet", **settings) -> nn.Module:
    torch.manual_seed(0)
    if temporal.startswith(("psn", "rf")):
        settings.setdefault("proportion", 0.5)
    settings = {"backbone": backbone, "temporal": temporal, "num_frames": FRAMES, "num_classes": 5, **settings}
    model = timm.create_model("video_net", **settings)
    if "img_size" in model.pretrained_cfg or backbone in ("test_vit", "levit_128s"):
        size = model.pretrained_cfg["input_size"][-1]
    else:
        size = SIZE
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, size, size)}
    with torch.no_grad():  # as if trained: nothing is zero any more, no norm is plain, and each knows what comes
        for parameter in model.parameters():
            parameter.add_(0.3 * parameter.abs().mean().clamp(min=0.03) * torch.randn_like(parameter))
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.momentum = None
        model.train()(torch.randn(4, 3, FRAMES, size, size))
    return model.eval()


def clips(model: nn.Module, batch: int, frames: int = FRAMES) -> torch.Tensor:
    return torch.randn(batch, 3, frames, *model.pretrained_cfg["input_size"][1:])


@torch.no_grad()
def check(model: nn.Module, folded: nn.Module, frames: int = FRAMES) -> None:
    x = clips(model, 2, frames)
    for clip in (x, x.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)):
        expected = model(clip)
        assert (folded(clip) - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


def cases():
    """The ways to fold a system that make a difference for it: merge, and with it addmm."""
    return [(name, merge) for name in SYSTEMS for merge in ((True, False) if name.startswith("psn") else (True,))]


@pytest.mark.parametrize(("name", "merge"), cases())
def test_every_system_gives_its_logits(name, merge):
    model = build(**{"temporal": name, **SYSTEMS[name]})
    before = copy.deepcopy(model.state_dict())
    folded = timm_video_psn.fold(model, merge=merge, addmm=merge)
    check(model, folded)
    if name != "tam":  # made for one length
        check(model, folded, FRAMES + 1)
    assert len(folded.folding.left) == LEFT.get(name, 0)
    assert folded.folding.error < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    if name.startswith("psn"):
        assert (len(folded.folding.merged) == 4) is (merge is True)
        assert (len(folded.folding.convolved) == 4) is (merge is False)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_kind_of_backbone_gives_its_logits(name):
    model = build("psn", name)
    folded = timm_video_psn.fold(model)
    check(model, folded)
    assert folded.folding.left == ()
    assert bool(folded.folding.reparameterized) is (name in ("levit_128s", "fastvit_t8", "repvgg_a0"))
    kept = [len(list(injected(each.backbone))) for each in (model, folded)]
    assert kept[0] == kept[1] > 0


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_routing_is_kept(fusion):
    model = build("psn", fusion=fusion, receptive_field=(5, 5, 5), proportion=1.0, sites="layer2")
    for merge in (True, False):
        folded = timm_video_psn.fold(model, merge=merge)
        check(model, folded)
        fixed = fusion in ("grouping", "shuffle")
        assert len(folded.folding.convolved) == (not fixed and not merge)
    for site, found in timm_video_psn.interaction_map(timm_video_psn.fold(model, merge=False)).items():
        torch.testing.assert_close(found.norms, timm_video_psn.interaction_map(model)[site].norms)


def test_a_synthesized_kernel_is_the_temporal_kernel_times_the_routing():
    fusion = FUSIONS["dense"]((3, 2, 2), (3, 2, 2)).double()
    bank = TemporalBank(7, [1, 3, 5], "none").double()
    kernel = SynthesizedKernels(fusion, bank).conv.weight[..., 0]  # (C, C, taps)
    expected = torch.zeros(7, 7, 5, dtype=torch.float64)
    for channel in range(7):
        for source in range(7):
            if channel < 3:
                expected[channel, source, 2] = fusion.weight[channel, source]
            elif channel < 5:
                for tap in range(3):
                    for inner in range(2):
                        weight = bank.branches[1].weight[channel - 3, inner, tap, 0]
                        expected[channel, source, 1 + tap] += weight * fusion.weight[3 + inner, source]
            else:
                for tap in range(3):
                    for inner in range(2):
                        weight = bank.branches[2].weight[channel - 5, inner, tap, 0]
                        expected[channel, source, 2 * tap] += weight * fusion.weight[5 + inner, source]
    torch.testing.assert_close(kernel, expected)


def test_what_was_folded_is_told():
    model = build("psn")
    narrow = timm_video_psn.fold(model)
    assert str(narrow.folding).splitlines()[:5] == [
        "timm's own reparameterisation: 0",
        "norms in the layers before them: 23 (backbone.conv1.1, backbone.conv1.4, backbone.bn1 and 20 more)",
        "norms that stay: 0",
        "routings as convolutions: 2 (backbone.layer2.0.temporal, backbone.layer3.0.temporal)",
        "routings in temporal kernels: 2 (backbone.maxpool.temporal, backbone.layer1.0.temporal)",
    ]
    fusions = [type(narrow.get_submodule(name).fusion) for name in narrow.folding.convolved]
    assert fusions == [ConvFusion, ConvFusion]


def test_a_routing_in_the_kernels_cannot_be_asked_for():
    folded = timm_video_psn.fold(build("psn", sites="layer1"), merge=True)
    with pytest.raises(ValueError, match="folded into its temporal kernels; use the original model"):
        timm_video_psn.interaction_map(folded)


def test_expansion_and_residual_are_one_product_in_channels_last_memory():
    module = build("psn", sites="layer1").backbone.layer1[0].temporal
    added = AddmmResidual(module)
    x = torch.randn(FRAMES, 32, 6, 5).to(memory_format=torch.channels_last)
    called = []
    module.expand.register_forward_hook(lambda *_: called.append(True))
    with torch.no_grad():
        z = added(x.clone())
        assert not called
        torch.testing.assert_close(z, module(x))
    assert z.is_contiguous(memory_format=torch.channels_last)


class Broken(nn.Module):
    """Gives other numbers each time, or once timm's reparameterisation has seen its child."""

    def __init__(self, child: nn.Module):
        super().__init__()
        self.child = child

    def forward(self, x):
        return self.child(x)


class Fusable(nn.Module):
    def forward(self, x):
        return x + 1

    def fuse(self):
        return nn.Identity()


def test_a_reparameterisation_that_changes_the_logits_is_left_out():
    folded = timm_video_psn.fold(Broken(Fusable()), example=torch.randn(2, 3))
    assert folded.folding.reparameterized == ("none: its logits differ by 1.0e+00",)
    assert torch.equal(folded(torch.zeros(1)), torch.ones(1))


def test_a_reparameterisation_that_would_lose_temporal_modules_is_left_out():
    model = Broken(Fusable())
    model.child.inner = nn.Identity()
    timm_video_psn.inject(model, "child.inner", lambda *_: nn.ReLU())
    folded = timm_video_psn.fold(model, example=torch.randn(2, 3))
    assert folded.folding.reparameterized == ("none: child.inner, which carry temporal modules, would go",)
    assert isinstance(folded.child, Fusable)


def test_other_logits_are_an_error():
    class Noise(nn.Module):
        def forward(self, x):
            return torch.rand_like(x)

    with pytest.raises(ValueError, match=r"folding changes the logits of Broken by .* use it unfolded"):
        timm_video_psn.fold(Broken(Noise()), example=torch.randn(2, 3))


def test_a_module_that_is_no_video_net_needs_an_example():
    with pytest.raises(ValueError, match=r"Linear is not a VideoNet, .* call fold.model, example"):
        timm_video_psn.fold(nn.Linear(2, 2))
