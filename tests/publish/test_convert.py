"""hub/convert.py on files in the exact form of the official codes, against torchvision's own network."""

import argparse
import csv
import json
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18
from torchvision.models.resnet import Bottleneck

from tests.publish import clients
from timm_video_psn.__main__ import convert as convert_main
from timm_video_psn.data import write_video
from timm_video_psn.engine.load_model import load
from timm_video_psn.files import file_sha256
from timm_video_psn.publish.convert import check_class_count, read_class_names

ROOT = Path(__file__).parents[2]
FRAMES = 4
CLASSES = 6
NAMES = ["Closing something", "Holding something", "Lifting something", "Moving something", "Opening it", "Poking it"]


class Shifted(nn.Module):
    """A convolution that sees an eighth of the channels one frame early and an eighth one frame late, by hand."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out = x.clone()
        eighth = x.shape[1] // 8
        for frame in range(x.shape[0]):
            first, last = frame % FRAMES == 0, frame % FRAMES == FRAMES - 1
            out[frame, :eighth] = 0 if last else x[frame + 1, :eighth]
            out[frame, eighth : 2 * eighth] = 0 if first else x[frame - 1, eighth : 2 * eighth]
        return self.net(out)


class Official(nn.Module):
    """`base_model` with its classifier taken out, `new_fc`, and the mean over the frames, as both codes have it."""

    def __init__(self, base_model: nn.Module):
        super().__init__()
        self.base_model = base_model
        self.new_fc = nn.Linear(base_model.fc.in_features, CLASSES)
        base_model.fc = nn.Dropout(0.5)

    def forward(self, clip: Tensor) -> Tensor:
        frames = clip.transpose(1, 2).flatten(0, 1)
        return self.new_fc(self.base_model(frames)).unflatten(0, (-1, FRAMES)).mean(1)


def settled(model: nn.Module) -> nn.Module:
    """In evaluation, with statistics that make a difference."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.4, 1.2)
    return model.eval()


def tsm() -> Official:
    base = resnet18()
    for stage in (base.layer1, base.layer2, base.layer3, base.layer4):
        for block in stage:
            block.conv1 = Shifted(block.conv1)
    return settled(Official(base))


class Grouped(nn.Module):
    """GST's pair of convolutions: half of the channels to either, a quarter of the outputs from the temporal one."""

    def __init__(self, channels: int, stride: tuple[int, int]):
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.spatial = nn.Conv3d(half, channels - quarter, (1, 3, 3), (1, *stride), (0, 1, 1), bias=False)
        self.Tconv = nn.Conv3d(half, quarter, 3, (1, *stride), 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.spatial(x.chunk(2, 1)[0]), self.Tconv(x.chunk(2, 1)[1])], 1)


def as_3d(module: nn.Module) -> nn.Module:
    """torchvision's network with kernels of one frame, and `Grouped` where a bottleneck has its 3x3 convolution."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and name == "conv2":
            setattr(module, name, Grouped(child.in_channels, child.stride))
        elif isinstance(child, nn.Conv2d):
            kernel, stride, padding = (1, *child.kernel_size), (1, *child.stride), (0, *child.padding)
            conv = nn.Conv3d(child.in_channels, child.out_channels, kernel, stride, padding, bias=False)
            setattr(module, name, conv)
        elif isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.BatchNorm3d(child.num_features))
        else:
            as_3d(child)
    return module


class OfficialGST(Official):
    def __init__(self):
        base = as_3d(ResNet(Bottleneck, [2, 2, 2, 2]))
        base.maxpool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
        super().__init__(base)

    def forward(self, clip: Tensor) -> Tensor:
        x, base = clip, self.base_model
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            x = base.get_submodule(name)(x)
        return self.new_fc(x.mean((3, 4)).transpose(1, 2)).mean(1)

    def state_dict(self, *args, **kwargs) -> dict[str, Tensor]:
        """Under the names of GST.Bottleneck, which has both convolutions as its own children."""
        state = super().state_dict(*args, **kwargs)
        apart = {".conv2.spatial.": ".conv2.", ".conv2.Tconv.": ".Tconv."}
        return OrderedDict((re.sub("|".join(apart), lambda found: apart[found[0]], n), v) for n, v in state.items())


def official_file(path: Path, official: nn.Module, legacy: bool = False, **entries: object) -> Path:
    """What `save_checkpoint` of both codes writes; TSM's were written by PyTorch 1.0, whose files were no archives."""
    state = OrderedDict((f"module.{name}", value) for name, value in official.state_dict().items())
    content = {"epoch": 50, "arch": "resnet18", "state_dict": state, "best_prec1": 45.6, **entries}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.fixture
def convert(capsys) -> Callable[..., tuple[int, str]]:
    """Runs the command; its exit code, and what it said."""

    def run(*arguments: object) -> tuple[int, str]:
        code = convert_main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.err if code else said.out

    return run


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "conversion.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("names") / "category.txt"
    path.write_text("\n".join(NAMES) + "\n")
    return path


@pytest.fixture
def clip() -> Tensor:
    return torch.randn(2, 3, FRAMES, 64, 64)


def mean_of_frames(image: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda clip: image(clip.transpose(1, 2).flatten(0, 1)).unflatten(0, (-1, FRAMES)).mean(1)


def assert_same(folder: Path, official: Callable[[Tensor], Tensor], clip: Tensor) -> None:
    ours = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        found, expected = ours(clip), official(clip)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def six(*arguments: object, out: Path) -> list[object]:
    """Arguments that all of these share."""
    return [*arguments, "--num-frames", FRAMES, "--dataset", "six", "--output", out]


def test_an_official_tsm_checkpoint_becomes_a_folder_that_predicts_and_can_be_published(tmp_path, names, clip, client):
    official, out = tsm(), tmp_path / "new" / "folder"
    checkpoint = official_file(tmp_path / "ckpt.best.pth.tar", official, legacy=True, optimizer={"state": {}})
    arguments = six("--source", "tsm", checkpoint, "--model", "tsm_resnet18", "--class-names", names, out=out)
    command = [sys.executable, ROOT / "hub" / "convert.py", *arguments]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stderr
    assert "122 tensors, all taken, 0 of them" in run.stdout
    assert_same(out, official, clip)

    rows, in_file = rows_of(out), torch.load(checkpoint, weights_only=True)
    assert {row["in the file"] for row in rows} == {*in_file["state_dict"], "epoch", "arch", "best_prec1", "optimizer"}
    left_out = {row["in the file"]: row["what"] for row in rows if not row["ours"]}
    assert left_out["epoch"] == "left out, no weights: 50"
    assert left_out["optimizer"] == "left out, no weights: a dict"
    config = json.loads((out / "config.json").read_text())
    assert config["converted_from"]["entries"]["best_prec1"] == "45.6"
    assert config["video"]["protocol"].startswith(f"{FRAMES}x1x1@224/256 segments")

    dry = tmp_path / "dry"
    outcome = client(clients.publish, str(out), "--repo-id", "someone/tsm", "--dry-run", str(dry))
    assert outcome.value == 0, outcome.output
    card = (dry / "README.md").read_text()
    code, sha256 = "https://github.com/mit-han-lab/temporal-shift-module", file_sha256(checkpoint)
    assert f"`ckpt.best.pth.tar` (sha256 `{sha256}`) of [{code.partition('//')[2]}]({code})" in card
    assert "trained on six." in card
    assert "trained by others" in card
    assert "@inproceedings{lin2019tsm," in card
    assert (dry / "conversion.csv").read_bytes() == (out / "conversion.csv").read_bytes()

    video = tmp_path / "clip.mp4"
    write_video(video, np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), np.uint8))
    assert {item.label for item in load(out).predict(video, 6).top} == set(NAMES)


def test_an_official_gst_checkpoint_keeps_its_logits_and_says_what_was_reshaped(tmp_path, clip, convert):
    official, out = settled(OfficialGST()), tmp_path / "gst"
    checkpoint = official_file(tmp_path / "gst_best.pth.tar", official, best_prec1=torch.tensor([31.5]))
    model = ("--model", "video_net", "--model-kwargs", "backbone=resnet26", "temporal=gst")
    code, said = convert(*six("--source", "gst", checkpoint, *model, out=out))
    assert code == 0, said
    assert_same(out, official, clip)
    temporal = [row for row in rows_of(out) if row["ours"] == "backbone.layer1.0.conv2.temporal.weight"]
    assert temporal == [
        {
            "in the file": "module.base_model.layer1.0.Tconv.weight",
            "ours": "backbone.layer1.0.conv2.temporal.weight",
            "shape in the file": "(16, 32, 3, 3, 3)",
            "what": "taken as (48, 32, 3, 3): our kernels are 2D",
        }
    ]
    assert "best_prec1: left out, no weights: 31.5" in said
    assert "config.json has no class names" in said


@pytest.mark.parametrize(("entry", "model"), [(None, "tsn_resnet18"), ("model", "psn_resnet18")])
def test_a_resnet_of_torchvision_becomes_a_baseline(entry, model, tmp_path, names, clip, convert):
    """A PSN's synthesizers begin as nothing, so that it too gives the mean of the image model's logits."""
    image, out = settled(resnet18(num_classes=CLASSES)), tmp_path / "tsn"
    state = {name: value for name, value in image.state_dict().items() if not name.endswith("num_batches_tracked")}
    content = state if entry is None else {entry: state, "args": argparse.Namespace(lr=0.1), "acc": np.float64(69.8)}
    torch.save(content, tmp_path / "resnet.pth")
    arguments = ("--source", "torchvision", tmp_path / "resnet.pth", "--model", model, "--class-names", names)
    code, said = convert(*six(*arguments, out=out))
    assert code == 0, said
    assert_same(out, mean_of_frames(image), clip)
    assert "of ours not in the file: PyTorch before 0.4.1" in said
    assert ("of a temporal module, which an image model has none of" in said) == (model == "psn_resnet18")
    if entry:
        assert "args: left out, no weights: a Namespace" in said
        assert "acc: left out, no weights: 69.8" in said


def test_a_resnet_of_timm_is_seen_as_its_user_says(tmp_path, clip, convert):
    image, out = settled(timm.create_model("resnet18", num_classes=CLASSES)), tmp_path / "tsn"
    save_file(image.state_dict(), tmp_path / "model.safetensors")
    arguments = ("--source", "timm", tmp_path / "model.safetensors", "--model", "tsn_resnet18")
    code, said = convert(*six(*arguments, "--crop-pct", 0.95, "--interpolation", "bicubic", out=out))
    assert code == 0, said
    assert_same(out, mean_of_frames(image), clip)
    cfg = json.loads((out / "config.json").read_text())["pretrained_cfg"]
    assert (cfg["crop_pct"], cfg["interpolation"]) == (0.95, "bicubic")


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("trap_was_run",))


def broken(case: str, folder: Path) -> Path:
    path = folder / "broken.pth"
    state = OrderedDict((f"module.{name}", value) for name, value in tsm().state_dict().items())
    if case == "extra":
        state["module.base_model.layer1.0.nl.g.weight"] = torch.zeros(1)
    elif case == "lacking":
        del state["module.base_model.layer2.0.bn1.bias"]
    elif case == "shape":
        state["module.base_model.layer2.0.bn1.bias"] = torch.zeros(7)
    elif case == "headless":
        del state["module.new_fc.weight"]
    elif case == "twice":
        state["new_fc.weight"] = state["module.new_fc.weight"]
    content = {"state_dict": state, "trap": Trap()} if case == "trap" else {"state_dict": state}
    if case == "no safetensors":
        path = path.with_suffix(".safetensors")
        path.write_bytes(b"nothing of the kind")
        return path
    if case == "no weights":
        content = {"epoch": 3}
    if case == "an old pickle":
        path.write_bytes(pickle.dumps({"state_dict": [1, 2]}, protocol=2))
    elif case == "cut off":
        torch.save(content, path)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("extra", r": 1 unknown: base_model\.layer1\.0\.nl\.g\.weight"),
        ("lacking", r": 1 missing: base_model\.layer2\.0\.bn1\.bias; create"),
        ("shape", r"layer2\.0\.bn1\.bias \(7,\) for \(128,\)"),
        ("headless", r"the checkpoint has no classifier: expected one of new_fc\.weight, base_model\.fc\.weight"),
        ("twice", r"duplicate names, with and without `module\.`: .*new_fc\.weight"),
        ("trap", r"broken\.pth holds posix\.mkdir, which is not a tensor; unpickling it would run code"),
        ("no weights", r"the top of .*broken\.pth is not a state dict: epoch is not a tensor"),
        ("an old pickle", r"broken\.pth is damaged or not a checkpoint"),
        ("cut off", r"broken\.pth is damaged or not a checkpoint"),
        ("no safetensors", r"broken\.safetensors is damaged or not a checkpoint"),
    ],
)
def test_what_is_not_explained_is_an_error_and_leaves_nothing(case, message, tmp_path, convert, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = broken(case, tmp_path)
    code, said = convert(*six("--source", "tsm", checkpoint, "--model", "tsm_resnet18", out=tmp_path / "out"))
    assert code == 2
    assert re.match(rf"convert\.py: error: .*{message}", said), said
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint.name]  # and no folder trap_was_run


@pytest.mark.parametrize(
    ("lines", "dataset", "message"),
    [
        (["b", "a"], "sthv1", r"has 'b' as class 0, but the classes of sthv1 are numbered alphabetically, .* 'a'"),
        (["a", "a"], "k400", "lists classes twice: a"),
    ],
)
def test_class_names_in_another_order_are_refused(lines, dataset, message, tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        read_class_names(path, dataset)


def test_the_official_labels_of_something_something_are_refused_unsorted_and_taken_sorted(tmp_path):
    labels = ROOT / "tests" / "data" / "datasets" / "something_something_v1_labels.csv"
    with pytest.raises(ValueError, match="numbered alphabetically"):
        read_class_names(labels, "sthv1")
    path = tmp_path / "category.txt"
    path.write_text("\n".join(sorted(labels.read_text().splitlines())))
    assert len(read_class_names(path, "sthv1")) == 174


@pytest.mark.parametrize(
    ("classes", "dataset", "names", "message"),
    [
        (51, "sthv2", None, "the checkpoint has 51 classes, but --dataset sthv2 has 174"),
        (3, "mine", ["a", "b"], "the checkpoint has 3 classes, but --class-names lists 2"),
    ],
)
def test_numbers_of_classes_that_differ_are_refused(classes, dataset, names, message):
    with pytest.raises(ValueError, match=message):
        check_class_count(classes, dataset, names)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, convert):
    (tmp_path / "precious.txt").write_text("mine")
    code, said = convert(*six("--source", "tsm", "any.pth", "--model", "tsm_resnet18", out=tmp_path))
    assert (code, [path.name for path in tmp_path.iterdir()]) == (2, ["precious.txt"])
    assert "is not empty; name another folder" in said
