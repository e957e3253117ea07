"""What PSN compares with, by name.

Other authors' systems: TSN (Wang et al., 2016), TSM (Lin, Gan, Han, 2019), GST (Luo, Yuille, 2019), GSM (Sudhakaran,
Escalera, Lanz, 2020), TEA (Li et al., 2020), TAM (Liu et al., 2021), STM (Jiang et al., 2019), TRN (Zhou et al., 2018),
I3D (Carreira, Zisserman, 2017), non-local blocks (Wang et al., 2018), SlowFast's slow pathway (Feichtenhofer et al.,
2019), C3D (Tran et al., 2015), P3D (Qiu, Yao, Mei, 2017), R(2+1)D (Tran et al., 2018), ECO (Zolfaghari, Singh, Brox,
2018) and CorrNet (Wang et al., 2020). The paper's own baselines (Fig. 4, Table 1):
RF-S, RF-L, RF-L-Inception and RF-L-Inception-T, which follow the levels conv1 to conv4 as PSN does. Table 1 was
evidently counted one level later: `sites=("layer1", "layer2", "layer3", "layer4")` gives its parameters.

Other backbones: `create_model("video_net", backbone=..., temporal="rf_s")`.
"""

from typing import Any

from timm.models import generate_default_cfgs, register_model

from timm_video_psn.models.create import create_named, video_cfg
from timm_video_psn.models.video_net import VideoNet

default_cfgs = generate_default_cfgs(
    {
        "tsn_resnet18": video_cfg("resnet18.tv_in1k"),
        "tsn_resnet34": video_cfg("resnet34.tv_in1k"),
        "tsn_resnet50": video_cfg("resnet50.tv_in1k"),
        "tsn_resnet101": video_cfg("resnet101.tv_in1k"),
        "tsn_resnet152": video_cfg("resnet152.tv_in1k"),
        "tsn_test_resnet": video_cfg("test_resnet.r160_in1k"),
        "tsm_resnet18": video_cfg("resnet18.tv_in1k"),
        "tsm_resnet34": video_cfg("resnet34.tv_in1k"),
        "tsm_resnet50": video_cfg("resnet50.tv_in1k"),
        "tsm_resnet101": video_cfg("resnet101.tv_in1k"),
        "tsm_resnet152": video_cfg("resnet152.tv_in1k"),
        "tsm_test_resnet": video_cfg("test_resnet.r160_in1k"),
        "gst_resnet50": video_cfg("resnet50.tv_in1k"),
        "gst_resnet101": video_cfg("resnet101.tv_in1k"),
        "gsm_resnet50": video_cfg("resnet50.tv_in1k"),
        "gsm_inception_v3": video_cfg("inception_v3.tv_in1k"),
        "tea_res2net50_26w_4s": video_cfg("res2net50_26w_4s.in1k"),
        "tea_16w_resnet50": video_cfg("resnet50.tv_in1k"),
        "tea_resnet50": video_cfg("resnet50.tv_in1k"),
        "tam_resnet50": video_cfg("resnet50.tv_in1k"),
        "stm_resnet50": video_cfg("resnet50.tv_in1k"),
        "trn_resnet50": video_cfg("resnet50.tv_in1k"),
        "i3d_resnet50": video_cfg("resnet50.tv_in1k"),
        "i3d_nl_resnet101": video_cfg("resnet101.tv_in1k"),
        "slow_resnet50": video_cfg("resnet50.tv_in1k"),
        "c3d_resnet50": video_cfg("resnet50.tv_in1k"),
        "p3d_resnet50": video_cfg("resnet50.tv_in1k"),
        "r2plus1d_resnet34": video_cfg("resnet34.tv_in1k"),
        "eco_resnet18": video_cfg("resnet18.tv_in1k"),
        "corr_resnet101": video_cfg("resnet101.tv_in1k"),
        "rf_s_resnet50": video_cfg("resnet50.tv_in1k"),
        "rf_l_resnet50": video_cfg("resnet50.tv_in1k"),
        "rf_l_inception_resnet50": video_cfg("resnet50.tv_in1k"),
        "rf_l_inception_t_resnet50": video_cfg("resnet50.tv_in1k"),
    }
)


@register_model
def tsn_resnet18(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-18."""
    return create_named("tsn_resnet18", pretrained, "resnet18.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet34(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-34."""
    return create_named("tsn_resnet34", pretrained, "resnet34.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-50."""
    return create_named("tsn_resnet50", pretrained, "resnet50.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-101."""
    return create_named("tsn_resnet101", pretrained, "resnet101.tv_in1k", "tsn", kwargs)


@register_model
def tsn_resnet152(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on ResNet-152."""
    return create_named("tsn_resnet152", pretrained, "resnet152.tv_in1k", "tsn", kwargs)


@register_model
def tsn_test_resnet(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSN on timm's tiny test_resnet, for tests and the demo."""
    return create_named("tsn_test_resnet", pretrained, "test_resnet.r160_in1k", "tsn", kwargs)


@register_model
def tsm_resnet18(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-18."""
    return create_named("tsm_resnet18", pretrained, "resnet18.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet34(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-34."""
    return create_named("tsm_resnet34", pretrained, "resnet34.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-50."""
    return create_named("tsm_resnet50", pretrained, "resnet50.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-101."""
    return create_named("tsm_resnet101", pretrained, "resnet101.tv_in1k", "tsm", kwargs)


@register_model
def tsm_resnet152(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on ResNet-152."""
    return create_named("tsm_resnet152", pretrained, "resnet152.tv_in1k", "tsm", kwargs)


@register_model
def tsm_test_resnet(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TSM on timm's tiny test_resnet, for tests and the demo."""
    return create_named("tsm_test_resnet", pretrained, "test_resnet.r160_in1k", "tsm", kwargs)


@register_model
def gst_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """GST on ResNet-50, alpha 4 and beta 2."""
    return create_named("gst_resnet50", pretrained, "resnet50.tv_in1k", "gst", kwargs)


@register_model
def gst_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """GST on ResNet-101, alpha 4 and beta 2."""
    return create_named("gst_resnet101", pretrained, "resnet101.tv_in1k", "gst", kwargs)


@register_model
def gsm_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """GSM on ResNet-50."""
    return create_named("gsm_resnet50", pretrained, "resnet50.tv_in1k", "gsm", kwargs)


@register_model
def gsm_inception_v3(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """GSM on Inception v3, its paper's network."""
    return create_named("gsm_inception_v3", pretrained, "inception_v3.tv_in1k", "gsm", kwargs)


@register_model
def tea_res2net50_26w_4s(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TEA on Res2Net-50 26w x 4s, its paper's network."""
    return create_named("tea_res2net50_26w_4s", pretrained, "res2net50_26w_4s.in1k", "tea", kwargs)


@register_model
def tea_16w_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TEA on ResNet-50, whose bottlenecks become Res2Net bottlenecks of the same width: 16w x 4s."""
    return create_named("tea_16w_resnet50", pretrained, "resnet50.tv_in1k", "tea_16w", kwargs)


@register_model
def tea_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """The former name of `tea_16w_resnet50`."""
    return create_named("tea_resnet50", pretrained, "resnet50.tv_in1k", "tea", kwargs)


@register_model
def tam_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """TAM on ResNet-50 (TANet), for clips of `num_frames` frames and no others."""
    return create_named("tam_resnet50", pretrained, "resnet50.tv_in1k", "tam", kwargs)


@register_model
def rf_s_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-S: one kernel of 3x3x3."""
    return create_named("rf_s_resnet50", pretrained, "resnet50.tv_in1k", "rf_s", kwargs)


@register_model
def rf_l_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-L: one kernel shape of 5x5x5."""
    return create_named("rf_l_resnet50", pretrained, "resnet50.tv_in1k", "rf_l", kwargs)


@register_model
def rf_l_inception_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-L-Inception: cubes of 1, 3 and 5 and a pool, each on its own group of channels."""
    return create_named("rf_l_inception_resnet50", pretrained, "resnet50.tv_in1k", "rf_l_inception", kwargs)


@register_model
def rf_l_inception_t_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """RF-L-Inception-T: the temporal kernels alone."""
    return create_named("rf_l_inception_t_resnet50", pretrained, "resnet50.tv_in1k", "rf_l_inception_t", kwargs)


@register_model
def stm_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """STM on ResNet-50."""
    return create_named("stm_resnet50", pretrained, "resnet50.tv_in1k", "stm", kwargs)


@register_model
def i3d_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """I3D on ResNet-50, as Non-local Networks have it."""
    return create_named("i3d_resnet50", pretrained, "resnet50.tv_in1k", "i3d", kwargs)


@register_model
def i3d_nl_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """I3D with five non-local blocks on ResNet-101."""
    return create_named("i3d_nl_resnet101", pretrained, "resnet101.tv_in1k", "i3d_nl", kwargs)


@register_model
def slow_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """SlowFast's slow pathway alone, on ResNet-50."""
    return create_named("slow_resnet50", pretrained, "resnet50.tv_in1k", "slow", kwargs)


@register_model
def c3d_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """C3D's 3x3x3 convolutions in ResNet-50."""
    return create_named("c3d_resnet50", pretrained, "resnet50.tv_in1k", "c3d", kwargs)


@register_model
def p3d_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """P3D on ResNet-50."""
    return create_named("p3d_resnet50", pretrained, "resnet50.tv_in1k", "p3d", kwargs)


@register_model
def r2plus1d_resnet34(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """R(2+1)D on ResNet-34."""
    return create_named("r2plus1d_resnet34", pretrained, "resnet34.tv_in1k", "r2plus1d", kwargs)


@register_model
def eco_resnet18(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """ECO's 3D head on a 2D trunk, both one ResNet-18."""
    return create_named("eco_resnet18", pretrained, "resnet18.tv_in1k", "eco", kwargs)


@register_model
def corr_resnet101(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """CorrNet's correlation blocks in ResNet-101."""
    return create_named("corr_resnet101", pretrained, "resnet101.tv_in1k", "corr", kwargs)


@register_model
def trn_resnet50(pretrained: bool = False, **kwargs: Any) -> VideoNet:
    """Multi-scale TRN on ResNet-50, for clips of `num_frames` frames and no others."""
    return create_named("trn_resnet50", pretrained, "resnet50.tv_in1k", "tsn", {"consensus": "trn", **kwargs})
