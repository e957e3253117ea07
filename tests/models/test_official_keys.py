"""Official checkpoints against networks written here in the official structure, which know nothing of the package."""

import pytest
import timm
import torch
from torch import Tensor, nn

from timm_video_psn.models.official_keys import convert_keys

CLASSES = 7
LAYERS = {"resnet18": (2, 2, 2, 2), "resnet26": (2, 2, 2, 2)}  # resnet26 has the bottlenecks of resnet50


# --- the structure of mit-han-lab/temporal-shift-module around torchvision's ResNet


class OfficialShift(nn.Module):
    """`TemporalShift`: holds the convolution that the shift precedes."""

    def __init__(self, net: nn.Module, n_segment: int):
        super().__init__()
        self.net, self.n_segment = net, n_segment

    def forward(self, x: Tensor) -> Tensor:
        clips = x.view(-1, self.n_segment, *x.shape[1:])
        fold = x.shape[1] // 8
        out = torch.zeros_like(clips)
        out[:, :-1, :fold] = clips[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        return self.net(out.view_as(x))


class OfficialTSN(nn.Module):
    """`TSN(is_shift=..., dropout=...)` with consensus avg."""

    def __init__(self, base_model: nn.Module, frames: int, shift: bool = True, dropout: float = 0.5):
        super().__init__()
        self.base_model, self.frames = base_model, frames
        every = 2 if len(base_model.layer3) >= 23 else 1
        for stage in (base_model.layer1, base_model.layer2, base_model.layer3, base_model.layer4):
            for i, block in enumerate(stage):
                if shift and i % every == 0:
                    block.conv1 = OfficialShift(block.conv1, frames)
        self.new_fc = None
        width = base_model.fc.in_features
        if dropout:
            base_model.fc, self.new_fc = nn.Dropout(dropout), nn.Linear(width, CLASSES)
        else:
            base_model.fc = nn.Linear(width, CLASSES)

    def forward(self, clip: Tensor) -> Tensor:
        out = self.base_model(clip.transpose(1, 2).flatten(0, 1))
        out = self.new_fc(out) if self.new_fc is not None else out
        return out.view(-1, self.frames, CLASSES).mean(1)


class ImageBlock(nn.Module):
    """torchvision's BasicBlock or Bottleneck."""

    def __init__(self, inplanes: int, planes: int, stride: int, deep: bool):
        super().__init__()
        sizes = [(inplanes, planes, 1, 1), (planes, planes, 3, stride), (planes, 4 * planes, 1, 1)]
        if not deep:
            sizes = [(inplanes, planes, 3, stride), (planes, planes, 3, 1)]
        for i, (inputs, outputs, kernel, step) in enumerate(sizes, 1):
            conv = nn.Conv2d(inputs, outputs, kernel, step, kernel // 2, bias=False)
            self.add_module(f"conv{i}", conv)
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.depth, self.downsample = len(sizes), None
        if stride != 1 or inplanes != sizes[-1][1]:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, sizes[-1][1], 1, stride, bias=False), nn.BatchNorm2d(sizes[-1][1])
            )

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for i in range(1, self.depth + 1):
            out = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(out))
            out = out.relu() if i < self.depth else out
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


class ImageResNet(nn.Module):
    """torchvision's ResNet."""

    def __init__(self, layers: tuple[int, ...], deep: bool):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        inplanes = 64
        for k, blocks in enumerate(layers):
            planes, stage = 64 * 2**k, []
            for i in range(blocks):
                stage.append(ImageBlock(inplanes, planes, 2 if k and i == 0 else 1, deep))
                inplanes = planes * (4 if deep else 1)
            self.add_module(f"layer{k + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(inplanes, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


# --- the structure of chenxuluo/GST-video


def conv3d(inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1) -> nn.Conv3d:
    padding = tuple(size // 2 for size in kernel)
    return nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), padding, bias=False)


class GSTBlock(nn.Module):
    """`GST.Bottleneck`."""

    def __init__(self, inplanes: int, planes: int, stride: int, alpha: int, beta: int):
        super().__init__()
        self.conv1, self.bn1 = conv3d(inplanes, planes, (1, 1, 1)), nn.BatchNorm3d(planes)
        self.conv2 = conv3d(planes // beta, planes // alpha * (alpha - 1), (1, 3, 3), stride)
        self.Tconv = conv3d(planes // beta, planes // alpha, (3, 3, 3), stride)
        self.bn2 = nn.BatchNorm3d(planes)
        self.conv3, self.bn3 = conv3d(planes, 4 * planes, (1, 1, 1)), nn.BatchNorm3d(4 * planes)
        self.beta, self.downsample = beta, None
        if stride != 1 or inplanes != 4 * planes:
            self.downsample = nn.Sequential(conv3d(inplanes, 4 * planes, (1, 1, 1), stride), nn.BatchNorm3d(4 * planes))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn1(self.conv1(x)).relu()
        left, right = out.chunk(2, 1) if self.beta == 2 else (out, out)
        out = self.bn2(torch.cat([self.conv2(left), self.Tconv(right)], 1)).relu()
        out = self.bn3(self.conv3(out))
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


class GSTResNet(nn.Module):
    """`GST.ResNet`."""

    def __init__(self, layers: tuple[int, ...], alpha: int, beta: int):
        super().__init__()
        self.conv1, self.bn1 = conv3d(3, 64, (1, 7, 7), 2), nn.BatchNorm3d(64)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        inplanes = 64
        for k, blocks in enumerate(layers):
            planes, stage = 64 * 2**k, []
            for i in range(blocks):
                stage.append(GSTBlock(inplanes, planes, 2 if k and i == 0 else 1, alpha, beta))
                inplanes = 4 * planes
            self.add_module(f"layer{k + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(inplanes, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return self.fc(x.transpose(1, 2).flatten(0, 1).mean((2, 3)))  # 7x7 average pool of 224 pixels


class OfficialGST(nn.Module):
    """`TemporalModel` of models.py."""

    def __init__(self, base_model: nn.Module, frames: int, dropout: float = 0.3):
        super().__init__()
        self.base_model, self.frames = base_model, frames
        width = base_model.fc.in_features
        self.new_fc = nn.Linear(width, CLASSES) if dropout else None
        base_model.fc = nn.Dropout(dropout) if dropout else nn.Linear(width, CLASSES)

    def forward(self, clip: Tensor) -> Tensor:
        out = self.base_model(clip)
        out = self.new_fc(out) if self.new_fc is not None else out
        return out.view(-1, self.frames, CLASSES).mean(1)


# --- the structure of MobileNetV2 in TSM's code, of liu-zhy/temporal-adaptive-module and of TEA's


def numbered(*layers: nn.Module) -> nn.Sequential:
    """Layers with a ReLU6 after each norm but the last, as the official numbering has them."""
    norms = [i for i, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm2d)]
    out: list[nn.Module] = []
    for i, layer in enumerate(layers):
        out += [layer, nn.ReLU6()] if i in norms[:-1] else [layer]
    return nn.Sequential(*out)


class MobileBlock(nn.Module):
    """`InvertedResidual`, with the shift where `make_temporal_shift` of later versions has it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int, frames: int):
        super().__init__()
        hidden, self.residual = inputs * expand, stride == 1 and inputs == outputs
        layers: list[nn.Module] = []
        if expand > 1:
            first: nn.Module = nn.Conv2d(inputs, hidden, 1, bias=False)
            layers = [OfficialShift(first, frames) if self.residual else first, nn.BatchNorm2d(hidden)]
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)]
        layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = numbered(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class OfficialMobileTSM(nn.Module):
    """`TSN(base_model="mobilenetv2", is_shift=True)`."""

    def __init__(self, frames: int):
        super().__init__()
        settings = [
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ]
        features: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6())
        ]
        inputs = 32
        for expand, outputs, count, stride in settings:
            for i in range(count):
                features.append(MobileBlock(inputs, outputs, stride if i == 0 else 1, expand, frames))
                inputs = outputs
        features.append(nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()))
        self.base_model, self.frames = nn.Module(), frames
        self.base_model.features = nn.Sequential(*features)
        self.new_fc = nn.Linear(1280, CLASSES)

    def forward(self, clip: Tensor) -> Tensor:
        out = self.base_model.features(clip.transpose(1, 2).flatten(0, 1)).mean((2, 3))
        return self.new_fc(out).view(-1, self.frames, CLASSES).mean(1)


class OfficialTAM(nn.Module):
    """`TAM`: kernels and weights of the frames, made from the spatial means."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.frames = frames
        self.G = nn.Sequential(
            nn.Linear(frames, 2 * frames, bias=False),
            nn.BatchNorm1d(2 * frames),
            nn.ReLU(),
            nn.Linear(2 * frames, 3, bias=False),
            nn.Softmax(-1),
        )
        self.L = nn.Sequential(
            nn.Conv1d(channels, channels // 4, 3, padding=1, bias=False),
            nn.BatchNorm1d(channels // 4),
            nn.ReLU(),
            nn.Conv1d(channels // 4, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.frames)).transpose(1, 2)  # (B, C, T, H, W)
        means = clips.mean((3, 4))
        kernels = self.G(means.flatten(0, 1)).view(-1, 1, 3, 1)
        clips = clips * self.L(means)[..., None, None]
        rows = clips.flatten(3).flatten(0, 1)[None]
        mixed = nn.functional.conv2d(rows, kernels, padding=(1, 0), groups=len(kernels))
        return mixed.view_as(clips).transpose(1, 2).flatten(0, 1)


class TAMBlock(nn.Module):
    """`TemporalBottleneck`: holds torchvision's block."""

    def __init__(self, net: ImageBlock, frames: int):
        super().__init__()
        self.net, self.tam = net, OfficialTAM(net.conv1.out_channels, frames)

    def forward(self, x: Tensor) -> Tensor:
        out = self.tam(self.net.bn1(self.net.conv1(x)).relu())
        out = self.net.bn2(self.net.conv2(out)).relu()
        out = self.net.bn3(self.net.conv3(out))
        return (out + (x if self.net.downsample is None else self.net.downsample(x))).relu()


class MotionExcitation(nn.Module):
    """`MEModule`."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        inner, self.frames = channels // 16, frames
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.conv3, self.bn3 = nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        here = self.bn1(self.conv1(x))
        ahead = self.conv2(here).unflatten(0, (-1, self.frames))
        here = here.unflatten(0, (-1, self.frames))
        motion = torch.cat([ahead[:, 1:] - here[:, :-1], torch.zeros_like(here[:, :1])], 1).flatten(0, 1)
        return x + x * (self.bn3(self.conv3(motion.mean((2, 3), keepdim=True))).sigmoid() - 0.5)


class TemporalConv(nn.Module):
    """`ShiftModule`: a channelwise convolution along time."""

    def __init__(self, channels: int, frames: int):
        super().__init__()
        self.conv, self.frames = nn.Conv1d(channels, channels, 3, padding=1, groups=channels, bias=False), frames

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.frames)).permute(0, 3, 4, 2, 1)  # (B, H, W, C, T)
        mixed = self.conv(clips.flatten(0, 2)).view(clips.shape)
        return mixed.permute(0, 4, 3, 1, 2).flatten(0, 1)


class TEABlock(nn.Module):
    """`Bottle2neckShift`."""

    def __init__(self, inplanes: int, planes: int, stride: int, frames: int, opens_stage: bool):
        super().__init__()
        width = planes * 26 // 64
        self.width, self.opens_stage = width, opens_stage
        self.me = MotionExcitation(4 * width, frames)
        self.conv1, self.bn1 = nn.Conv2d(inplanes, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, stride, 1, bias=False) for _ in range(3))
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.shifts = nn.ModuleList(TemporalConv(width, frames) for _ in range(4))
        self.conv3, self.bn3 = nn.Conv2d(4 * width, 4 * planes, 1, bias=False), nn.BatchNorm2d(4 * planes)
        self.pool, self.downsample = nn.AvgPool2d(3, stride, 1), None
        if opens_stage:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, 4 * planes, 1, stride, bias=False), nn.BatchNorm2d(4 * planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.me(self.bn1(self.conv1(x)).relu()).split(self.width, 1)
        outputs: list[Tensor] = []
        for i in range(3):
            part = parts[i] if i == 0 or self.opens_stage else outputs[-1] + parts[i]
            outputs.append(self.bns[i](self.convs[i](self.shifts[i](part))).relu())
        last = self.shifts[3](parts[3])
        out = self.bn3(self.conv3(torch.cat([*outputs, self.pool(last) if self.opens_stage else last], 1)))
        return (out + (x if self.downsample is None else self.downsample(x))).relu()


def with_blocks(frames: int, make) -> OfficialTSN:
    """An official network of two small stages and two of one block, `make(stage, i)` each."""
    base = ImageResNet((1, 1, 1, 1), deep=True)
    for k, count in enumerate((2, 2, 1, 1)):
        setattr(base, f"layer{k + 1}", nn.Sequential(*(make(k, i) for i in range(count))))
    return OfficialTSN(base, frames, shift=False)


def settled(model: nn.Module) -> nn.Module:
    """In evaluation, with numbers everywhere that make a difference."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.4, 1.2)
    return model.eval()


def checkpoint(official: nn.Module) -> dict[str, Tensor]:
    """What the official code saves."""
    return nn.DataParallel(official).state_dict()


def create(temporal: str, backbone: str, **kwargs) -> nn.Module:
    return timm.create_model("video_net", backbone=backbone, temporal=temporal, num_classes=CLASSES, **kwargs).eval()


def gst(**settings) -> nn.Module:
    torch.manual_seed(0)
    return settled(
        OfficialGST(GSTResNet(LAYERS["resnet26"], settings.pop("alpha", 4), settings.pop("beta", 2)), 4, **settings)
    )


def tsm(backbone: str = "resnet18", **settings) -> nn.Module:
    return settled(OfficialTSN(ImageResNet(LAYERS[backbone], backbone != "resnet18"), 4, **settings))


def assert_same(ours: nn.Module, official: nn.Module, state: dict[str, Tensor], clip: Tensor) -> None:
    assert ours.load_state_dict(state) == ([], [])
    with torch.no_grad():
        found, expected = ours(clip), official(clip)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def clip() -> Tensor:
    return torch.randn(2, 3, 4, 48, 48)


@pytest.mark.parametrize("dropout", [0.5, 0.0])
@pytest.mark.parametrize("backbone", ["resnet18", "resnet26"])
def test_tsm_weights_give_the_logits_of_the_official_network(backbone, dropout, clip):
    official, ours = tsm(backbone, dropout=dropout), create("tsm", backbone)
    state = checkpoint(official)
    assert "module.base_model.layer1.0.conv1.net.weight" in state
    assert ("module.new_fc.weight" in state) == bool(dropout)
    assert_same(ours, official, convert_keys(ours, state, "tsm").state_dict, clip)


def test_tsn_weights_of_the_same_code_load_into_tsn(clip):
    official, ours = tsm(shift=False), create("tsn", "resnet18")
    assert_same(ours, official, convert_keys(ours, checkpoint(official), "tsm").state_dict, clip)


def test_in_deep_networks_every_second_block_of_tsm_has_a_shift(clip):
    layers = (1, 2, 23, 1)
    with torch.device("meta"):
        official = OfficialTSN(ImageResNet(layers, deep=False), 4)
        ours = create("tsm", "resnet18", layers=layers)
    state = convert_keys(ours, checkpoint(official), "tsm").state_dict
    assert state.keys() == ours.state_dict().keys()
    assert sum(".net." in name for name in official.state_dict()) == 1 + 1 + 12 + 1


@pytest.mark.parametrize(("settings", "dropout"), [({}, 0.3), ({"beta": 1}, 0.3), ({"alpha": 2}, 0.0)])
def test_gst_weights_give_the_logits_of_the_official_network(settings, dropout, clip):
    official, ours = gst(dropout=dropout, **settings), create("gst", "resnet26", **settings)
    state = checkpoint(official)
    assert state["module.base_model.layer1.0.Tconv.weight"].ndim == 5
    assert_same(ours, official, convert_keys(ours, state, "gst").state_dict, clip)


def test_tsm_weights_of_mobilenetv2_give_the_logits_of_the_official_network(clip):
    official, ours = settled(OfficialMobileTSM(4)), create("tsm", "mobilenetv2_100")
    state = checkpoint(official)
    assert "module.base_model.features.3.conv.0.net.weight" in state
    assert_same(ours, official, convert_keys(ours, state, "tsm").state_dict, clip)


def inplanes(stage: int, i: int) -> int:
    return 64 if stage == 0 and i == 0 else 4 * 64 * 2 ** (stage if i else stage - 1)


def test_tam_weights_give_the_logits_of_the_official_network(clip):
    official = settled(
        with_blocks(4, lambda k, i: TAMBlock(ImageBlock(inplanes(k, i), 64 * 2**k, 2 if k and not i else 1, True), 4))
    )
    ours = create("tam", "resnet50", layers=(2, 2, 1, 1), num_frames=4)
    state = checkpoint(official)
    assert {"module.base_model.layer1.0.tam.G.0.weight", "module.base_model.layer1.0.net.conv1.weight"} <= state.keys()
    assert_same(ours, official, convert_keys(ours, state, "tam").state_dict, clip)


def test_tea_weights_give_the_logits_of_the_official_network(clip):
    official = settled(
        with_blocks(4, lambda k, i: TEABlock(inplanes(k, i), 64 * 2**k, 2 if k and not i else 1, 4, not i))
    )
    ours = create("tea", "res2net50_26w_4s", layers=(2, 2, 1, 1))
    state = checkpoint(official)
    assert {f"module.base_model.layer2.1.{name}.weight" for name in ("me.conv2", "shifts.3.conv")} <= state.keys()
    assert_same(ours, official, convert_keys(ours, state, "tea").state_dict, clip)


def test_names_may_come_without_the_prefix_of_data_parallel_and_without_counts(clip):
    official, ours = tsm(), create("tsm", "resnet18")
    state = {name: value for name, value in official.state_dict().items() if "num_batches" not in name}
    assert_same(ours, official, convert_keys(ours, state, "tsm").state_dict, clip)


def test_missing_and_unknown_names_are_listed():
    official, ours = tsm(), create("tsm", "resnet18")
    state = checkpoint(official)
    state["module.base_model.layer2.0.nl.g.weight"] = state.pop("module.base_model.layer1.1.bn1.weight")
    with pytest.raises(
        ValueError,
        match=r"official TSM model like video_net with 7 classes: 1 missing: base_model\.layer1\.1\.bn1\.weight; "
        r"1 unknown: base_model\.layer2\.0\.nl\.g\.weight; create",
    ):
        convert_keys(ours, state, "tsm")


def test_a_checkpoint_of_another_kind_is_refused():
    state = checkpoint(tsm(shift=False))
    with pytest.raises(
        ValueError, match=r"missing: base_model\.layer1\.0\.conv1\.net\.weight, .*unknown: .*conv1\.weight"
    ):
        convert_keys(create("tsm", "resnet18"), state, "tsm")
    with pytest.raises(ValueError, match=r"official GST model .* missing: .*Tconv\.weight.* and \d+ more"):
        convert_keys(create("gst", "resnet26"), state, "gst")


def test_shapes_that_differ_are_listed():
    state = checkpoint(gst())
    ours = timm.create_model("video_net", backbone="resnet26", temporal="gst", num_classes=5)
    with pytest.raises(ValueError, match=r"of another shape: .*new_fc\.weight \(7, 2048\) for \(5, 2048\)"):
        convert_keys(ours, state, "gst")
    with pytest.raises(ValueError, match=r"layer1\.0\.conv2\.weight \(48, 32, 3, 3\) for \(48, 64, 3, 3\)"):
        convert_keys(create("gst", "resnet26", beta=1), state, "gst")


def test_every_name_of_the_file_is_accounted_for():
    official, ours = tsm(), create("tsm", "resnet18")
    state = {
        name: value for name, value in checkpoint(official).items() if not name.endswith("bn1.num_batches_tracked")
    }
    converted = convert_keys(ours, state, "tsm")
    assert set(converted.taken.values()) == set(state)
    assert converted.taken["backbone.layer1.0.conv1.weight"] == "module.base_model.layer1.0.conv1.net.weight"
    assert set(converted.kept) == ours.state_dict().keys() - converted.taken.keys()
    assert all(name.endswith("bn1.num_batches_tracked") for name in converted.kept)


def test_weights_of_an_image_model_leave_only_the_temporal_modules_as_they_are(clip):
    image, ours = settled(ImageResNet(LAYERS["resnet18"], deep=False)), create("psn", "resnet18")
    ours.reset_classifier(1000)
    converted = convert_keys(ours, image.state_dict(), "torchvision")
    assert set(converted.taken.values()) == set(image.state_dict())
    assert converted.kept
    assert all(".temporal." in name for name in converted.kept)
    assert_same(
        ours, lambda x: image(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4)).mean(1), converted.state_dict, clip
    )


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match=r"source='tms' is unknown; use one of tsm, gst, tea, tam, torchvision, timm"):
        convert_keys(create("tsn", "resnet18"), {}, "tms")
