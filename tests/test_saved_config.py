"""Model folders of strangers: every loader names the file, the key, what was found and what is accepted."""

import json
import shutil
from pathlib import Path

import pytest
import timm
import torch

from timm_video_psn import saved_config
from timm_video_psn.__main__ import main
from timm_video_psn.engine.checkpoint import export_model
from timm_video_psn.engine.load_model import load, load_from_checkpoint
from timm_video_psn.models.create import check_model_name
from timm_video_psn.models.published_weights import SHIPPED
from timm_video_psn.saved_config import read_saved_config

NAMES = [f"class {number}" for number in range(5)]


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A model folder as training leaves it: 5 classes, 2 frames of 32 pixels."""
    folder = tmp_path_factory.mktemp("model") / "best"
    model = timm.create_model("psn_test_resnet", num_frames=2, num_classes=5)
    config = {
        "label_names": NAMES,
        "pretrained_cfg": {"input_size": (3, 32, 32), "crop_pct": 0.875, "interpolation": "bilinear"},
        "video": {"num_frames": 2, "sampling": "segments"},
    }
    export_model(model, folder, config, {"num_frames": 2})
    return folder


def changed(good: Path, target: Path, **entries) -> Path:
    """A copy of a model folder with other entries in its config; `group.key` stands for an entry of a group."""
    copy = shutil.copytree(good, target / "best")
    config = json.loads((good / "config.json").read_text())
    for key, value in entries.items():
        group, _, name = key.rpartition("__")
        (config[group] if group else config)[name] = value
    (copy / "config.json").write_text(json.dumps(config))
    return copy


FAULTS = {
    "too few labels": ({"label_names": NAMES[:3]}, "label_names has 3 names, num_classes is 5; accepted are equal"),
    "labels of another type": ({"label_names": "abcde"}, 'label_names is "abcde"; accepted is a list of texts'),
    "labels by number": ({"label_names": {"0": "a"}}, "label_names is an object with 1 entries; accepted is a list"),
    "numbers as labels": (
        {"label_names": [1, 2, 3, 4, 5]},
        "label_names is a list with 5 entries; accepted is a list of",
    ),
    "labels as timm keeps them": ({"pretrained_cfg__label_names": 7}, r"pretrained_cfg\.label_names is 7; accepted is"),
    "a billion frames": (
        {"model_args__num_frames": int(1e9)},
        r"model_args\.num_frames is 1000000000; accepted is a whole",
    ),
    "frames of validation": (
        {"video__num_frames": 1e9},
        r"video\.num_frames is 1000000000\.0; accepted is a whole number",
    ),
    "no frames": ({"video__num_frames": 0}, r"video\.num_frames is 0; accepted is a whole number from 1 to 10,000"),
    "half a class": ({"num_classes": 5.5}, "num_classes is 5.5; accepted is a whole number from 0"),
    "true classes": ({"num_classes": True}, "num_classes is true; accepted is a whole number"),
    "sides": (
        {"pretrained_cfg__input_size": [3, 10**6, 10**6]},
        r"input_size is a list with 3 entries; accepted is \[cha",
    ),
    "a side": ({"video__img_size": 10**6}, r"video\.img_size is 1000000; accepted is a whole number from 1 to 8,192"),
    "crops": ({"video__num_crops": 2}, r"video\.num_crops is 2; accepted is 1 or 3"),
    "a deviation of zero": (
        {"pretrained_cfg__std": [0, 1, 1]},
        r"pretrained_cfg\.std is a list with 3 entries; accepted is",
    ),
    "not a number": ({"pretrained_cfg__mean": [float("nan")] * 3}, r"pretrained_cfg\.mean is a list with 3 entries"),
    "a crop": ({"pretrained_cfg__crop_pct": 0}, r"pretrained_cfg\.crop_pct is 0; accepted is a number above 0"),
    "a filter": ({"pretrained_cfg__interpolation": "magic"}, r'interpolation is "magic"; accepted is one of nearest'),
    "its own loading": (
        {"pretrained_cfg__custom_load": True},
        r"pretrained_cfg\.custom_load is true; accepted is false",
    ),
    "an entry of nobody": ({"pretrained_cfg__evil": 1}, r"pretrained_cfg\.evil is not among timm's entries"),
    "no cfg": ({"pretrained_cfg": None}, "pretrained_cfg is null; accepted is an object"),
    "a list of arguments": ({"model_args": []}, "model_args is a list with 0 entries; accepted is an object"),
    "a path": (
        {"model_args__fusion": "../secret"},
        r'model_args\.fusion is "\.\./secret"; accepted is a number .* \(no path\)',
    ),
    "a number": ({"model_args__layers": [10**9]}, r"model_args\.layers is a list with 1 entries; accepted is a number"),
    "another place": (
        {"model_args__backbone": "local-dir:/etc"},
        r'backbone is "local-dir:/etc"; accepted is a model name',
    ),
    "another repository": ({"model_args__backbone": "hf-hub:evil/net"}, r'backbone is "hf-hub:evil/net"; accepted is'),
    "another library's place": (
        {"model_args__source": "transformers:/etc/passwd"},
        r'source is "transformers:/etc/passwd"; accepted is torchvision:NAME',
    ),
    "a name": ({"architecture": 7}, "architecture is 7; accepted is the name of a model"),
    "a checksum": ({"weights": {"sha256": "?"}}, r'weights\.sha256 is "\?"; accepted is 64 hexadecimal digits'),
    "tests": ({"results": [{"metrics": {}}]}, "results is a list with 1 entries; accepted is a list of tests"),
    "escapes": ({"dataset": ["\x1b[2J"]}, "dataset is a list with 1 entries; accepted is a text"),
}


@pytest.mark.parametrize(("entries", "message"), FAULTS.values(), ids=FAULTS)
def test_what_no_model_can_have_is_refused_in_plain_words(good, tmp_path, entries, message):
    folder = changed(good, tmp_path, **entries)
    with pytest.raises(ValueError, match=message) as caught:
        read_saved_config(folder / "config.json")
    assert str(folder / "config.json") in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON in UTF-8"),
        (b"\xff\xfe{}", "is not valid JSON in UTF-8"),
        (b"[1, 2]", "it is a list with 2 entries; accepted is an object"),
        (b"{}", "architecture is missing; accepted is the name of a model; pretrained_cfg is missing"),
        (b'{"a": ' * 30 + b"1" + b"}" * 30, "it is nested 31 levels deep; accepted are 20"),
        (b"[" * 200_000 + b"]" * 200_000, "is nested without end"),
    ],
    ids=["cut", "UTF-16", "list", "empty", "deep", "without end"],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_saved_config(tmp_path / "config.json")


def test_a_huge_file_is_not_read(good, tmp_path, monkeypatch):
    monkeypatch.setattr(saved_config, "MAX_BYTES", 100)
    with pytest.raises(ValueError, match=r"bytes; a config\.json of at most 100 bytes is accepted"):
        read_saved_config(good / "config.json")


def test_good_files_are_read(good):
    assert read_saved_config(good / "config.json")["label_names"] == NAMES
    for config in SHIPPED.glob("*/config.json"):
        assert read_saved_config(config)["architecture"]


def _train(folder):
    return main(["train", "--dataset", "motion", "--model", f"local-dir:{folder}", "--data-dir", str(folder)])


def _predict(folder):
    return main(["predict", "video.mp4", "--model", str(folder)])


def _validate(folder):
    return main(["validate", "--model", str(folder), "--dataset", "motion", "--data-dir", str(folder)])


def _publish(folder):
    return main(["publish", str(folder), "--repo-id", "a/b", "--dry-run", str(folder.parent / "dry")])


def _export(folder):
    return main(["export", str(folder), "--output", str(folder.parent / "exported")])


def _insights(folder):
    return main(["insights", "cam", str(folder), "video.mp4", "--output", str(folder.parent / "cam")])


@pytest.mark.parametrize("command", [_train, _predict, _validate, _publish, _export, _insights])
def test_every_command_refuses_such_a_folder_with_the_same_sentence(good, tmp_path, capsys, command):
    folder = changed(good, tmp_path, label_names=NAMES[:3])
    assert command(folder) == 2
    told = capsys.readouterr().err
    assert f"{folder / 'config.json'} does not describe a model of timm: label_names has 3 names" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("form", ["best", "run", "local-dir"])
def test_every_form_of_a_source_is_checked(good, tmp_path, form):
    folder = changed(good, tmp_path, video__num_frames=0)
    source = {"best": folder, "run": folder.parent, "local-dir": f"local-dir:{folder}"}[form]
    with pytest.raises(ValueError, match=r"config\.json does not describe a model of timm: video\.num_frames is 0"):
        load(source)
    with pytest.raises(ValueError, match=r"video\.num_frames is 0"):
        check_model_name(f"local-dir:{folder}")  # as training does


class TestArguments:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("checkpoint_path", "checkpoint_path is not an argument of a network, but one that timm acts upon"),
            ("cache_dir", "cache_dir is not an argument of a network"),
            ("weights_sha256", r"config\.json: the saved arguments .* weights_sha256 is not among them; accepted are"),
            ("features_only", "features_only is not among them"),
        ],
    )
    def test_that_timm_would_act_upon_are_not_permitted(self, good, tmp_path, name, message):
        folder = changed(good, tmp_path, **{f"model_args__{name}": "x"})
        with pytest.raises(ValueError, match=message):
            load(folder)
        with pytest.raises((ValueError, TypeError), match=name):
            timm.create_model(f"local-dir:{folder}")

    def test_never_make_timm_read_a_file(self, good, tmp_path):
        class Trace:
            def __reduce__(self):
                return Path.touch, (tmp_path / "trace",)

        torch.save({"evil": Trace()}, tmp_path / "evil.pth")
        folder = changed(good, tmp_path, model_args__checkpoint_path="evil.pth")
        with pytest.raises(ValueError, match="checkpoint_path is not an argument of a network"):
            timm.create_model(f"local-dir:{folder}", pretrained=True)
        assert not (tmp_path / "trace").exists()

    def test_of_the_backbone_are_permitted(self, good, tmp_path):
        folder = changed(good, tmp_path, model_args__zero_init_last=False, model_args__base_width=64)
        assert load(folder, "cpu").model.num_frames == 2

    def test_of_a_network_that_the_weights_cannot_fill_are_refused_before_it_is_built(self, good, tmp_path):
        folder = changed(good, tmp_path, model_args__channels=[60_000, 60_000, 60_000, 60_000])  # 900 GB and more
        with pytest.raises(
            ValueError, match=r"model\.safetensors holds [\d,]+ numbers, and the model_args .* network of"
        ):
            load(folder)

    def test_of_a_checkpoint_are_checked_too(self, tmp_path):
        options = {"model": "psn_test_resnet", "num_frames": 2, "model_kwargs": {"checkpoint_path": "evil.pth"}}
        torch.save({"options": options, "class_names": ["a"]}, tmp_path / "last.pt")
        with pytest.raises(ValueError, match="does not describe a model: checkpoint_path is not"):
            load_from_checkpoint(None, tmp_path / "last.pt", ())

    def test_of_another_librarys_network_name_no_place_to_read(self):
        saved = {"source": "transformers:someone/model"}
        with pytest.raises(ValueError, match="config is missing, and transformers:someone/model would be read in its"):
            timm.create_model("external_video_net", **saved, pretrained_model_args=saved)
