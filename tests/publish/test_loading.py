"""Video weights from the Hub and from folders: what comes along, what is checked, what is refused."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save
from timm.models import save_for_hf

import timm_video_psn
from tests.publish import clients
from tests.publish.loopback_hub import USER, Fault
from timm_video_psn.data.video.write_video import write_video
from timm_video_psn.files import file_sha256

REPO = f"{USER}/psn-motion"


@pytest.fixture(scope="session")
def bundle(pool, best, tmp_path_factory) -> Path:
    """What publish.py would upload."""
    folder = tmp_path_factory.mktemp("bundle")
    arguments = (str(best), "--repo-id", REPO, "--dry-run", str(folder))
    assert pool.submit(clients.call, clients.publish, arguments, {}).result(clients.LIMIT_SEC + 20).value == 0
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def published(hub, bundle) -> str:
    """The commit of the published model."""
    return hub.seed(REPO, content(bundle))


@pytest.fixture
def load(client, tmp_path):
    """Loads a model in the client's process into an empty cache; its facts and its tensors, or the error."""

    def run(name=f"hf-hub:{REPO}", cache="cache", function=clients.load, before=(), environment=None, **kwargs):
        saved = tmp_path / "model.pt"
        arguments = (*before, name, str(tmp_path / cache), str(saved), kwargs)
        outcome = client(function, *arguments, token="", **(environment or {}))
        return outcome.error or (outcome.value, torch.load(saved))

    return run


@pytest.mark.parametrize("source", ["hf-hub", "local-dir"])
def test_frames_classes_and_channels_may_be_others(published, load, bundle, source):
    trained = load_file(bundle / "model.safetensors")
    name = f"hf-hub:{REPO}" if source == "hf-hub" else f"local-dir:{bundle}"
    facts, state = load(name, num_frames=7)
    assert (facts["num_frames"], facts["num_classes"]) == (7, 12)
    assert all(torch.equal(state[key], trained[key]) for key in trained)
    facts, state = load(name, num_classes=5, in_chans=1)
    assert (facts["num_frames"], facts["num_classes"]) == (4, 5)
    assert state["backbone.fc.weight"].shape == (5, 96)
    torch.testing.assert_close(
        state["backbone.conv1.0.weight"], trained["backbone.conv1.0.weight"].sum(1, keepdim=True)
    )
    rest = [key for key in trained if not key.startswith(("backbone.fc", "backbone.conv1.0"))]
    assert all(torch.equal(state[key], trained[key]) for key in rest)


def test_labels_come_along_and_predict_video_uses_them(published, client, bundle, tmp_path):
    video = tmp_path / "noise.mp4"
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 48, 3), dtype=np.uint8)
    write_video(video, frames)
    by_hub = client(clients.predict, str(video), "--model", f"hf-hub:{REPO}", "--json")
    by_folder = client(clients.predict, str(video), "--model", str(bundle), "--json")
    assert (by_hub.value, by_folder.value) == (0, 0), by_hub.output
    answers = [
        json.loads(next(line for line in each.output.splitlines() if line.startswith("{")))["top"]
        for each in (by_hub, by_folder)
    ]
    assert answers[0] == answers[1]
    assert {item["label"] for item in answers[0]} <= set(json.loads((bundle / "labels.json").read_text()))


def test_the_code_on_the_card_runs(published, client, bundle, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (bundle / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 48, 3), dtype=np.uint8)
    write_video(tmp_path / "some.mp4", frames)
    blocks[0] = blocks[0].replace("some.mp4", str(tmp_path / "some.mp4"))
    script = tmp_path / "card.py"
    script.write_text("\n".join(blocks))
    outcome = client(clients.run_script, str(script), token="")
    assert outcome.error == ""
    labels, lines = json.loads((bundle / "labels.json").read_text()), outcome.output.splitlines()
    assert any(line in labels for line in lines)
    assert sum(line.strip().partition("%  ")[2] in labels for line in lines) == 5  # of the video


def test_without_our_package_timm_says_what_to_import(published, settings, bundle):
    code = f"import timm\ntimm.create_model('local-dir:{bundle}', pretrained=True)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1
    assert "Unknown model (psn_test_resnet.import_timm_video_psn_first)" in run.stderr


def test_a_model_from_the_hub_is_that_of_one_commit(hub, published, load):
    facts, _ = load()
    assert facts["cfg"]["hf_hub_id"] == f"{REPO}@{published}"
    repository = hub.repositories[REPO]
    files = dict(repository.commits[published])
    newer = repository.add_commit("main", {path: blob for path, blob in files.items() if path != "README.md"})
    assert load(cache="other")[0]["cfg"]["hf_hub_id"] == f"{REPO}@{newer}"
    assert load(f"hf-hub:{REPO}@{published}", cache="old")[0]["cfg"]["hf_hub_id"] == f"{REPO}@{published}"


def flipped(data: bytes) -> bytes:
    """One bit of the last tensor is another: a valid file of the same size."""
    return data[:-1] + bytes([data[-1] ^ 1])


def test_one_wrong_bit_in_a_download_is_noticed_and_a_new_download_helps(hub, published, load, bundle, tmp_path):
    hub.faults.append(Fault("GET", "/cdn/", "corrupt"))
    error = load()
    assert error.startswith("ValueError")
    assert "model.safetensors is not the published file: its sha256 is" in error
    assert f"expected {file_sha256(bundle / 'model.safetensors')}" in error
    assert load() == error  # the client takes it from its cache: it knows its size only
    damaged = Path(error.partition("; delete ")[2].partition(" and load again")[0])
    assert tmp_path in damaged.parents
    damaged.unlink()
    assert load()[0]["num_classes"] == 12


def test_a_download_that_was_cut_short_is_noticed(hub, published, load):
    hub.faults.append(Fault("GET", "/cdn/", "truncate"))
    assert "Consistency check failed" in load()
    assert load()[0]["num_classes"] == 12


def test_a_folder_with_exchanged_weights_is_refused(bundle, tmp_path):
    folder = tmp_path / "exchanged"
    shutil.copytree(bundle, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(flipped(weights.read_bytes()))
    with pytest.raises(ValueError, match=f"its sha256 is {file_sha256(weights)}.*; replace .*exchanged"):
        timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert timm.create_model(f"local-dir:{folder}").num_classes == 12  # nothing to check without weights


def test_what_states_no_sha256_is_loaded_with_a_warning(hub, bundle, client, tmp_path):
    config = json.loads((bundle / "config.json").read_text())
    config.pop("weights")
    hub.seed(REPO, {**content(bundle), "config.json": json.dumps(config).encode()})
    outcome = client(clients.load, f"hf-hub:{REPO}", str(tmp_path), str(tmp_path / "m"), {}, token="")
    assert outcome.error == ""
    assert "states no sha256 of its weights" in outcome.output


class Evil:
    """A pickle that does something when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["state dict", "evil"])
def test_pickles_are_refused_unless_they_are_named_and_never_run(hub, bundle, load, tmp_path, kind):
    trained = load_file(bundle / "model.safetensors")
    buffer, trace = io.BytesIO(), tmp_path / "trace"
    torch.save(trained if kind == "state dict" else {**trained, "evil": Evil(trace)}, buffer)
    files = {path: data for path, data in content(bundle).items() if path != "model.safetensors"}
    hub.seed(REPO, {**files, "pytorch_model.bin": buffer.getvalue()})
    error = load()
    assert error.startswith("ValueError")
    assert f"{REPO} on the Hub has no model.safetensors" in error
    assert "pretrained_cfg_overlay=dict(hf_hub_filename='pytorch_model.bin')" in error
    assert hub.count("GET", "pytorch_model.bin") == 0
    asked = load(pretrained_cfg_overlay={"hf_hub_filename": "pytorch_model.bin"})
    if kind == "state dict":
        assert all(torch.equal(asked[1][key], trained[key]) for key in trained)
    else:
        assert "weights_only" in asked.lower()
    assert not trace.exists()


def test_a_config_cannot_ask_for_its_own_pickle(hub, bundle, load):
    config = json.loads((bundle / "config.json").read_text())
    config["pretrained_cfg"]["hf_hub_filename"] = "weights.pth"
    hub.seed(REPO, {"config.json": json.dumps(config).encode(), "weights.pth": b"pickle"})
    error = load()
    assert (
        "the config.json of someone/psn-motion names weights.pth as its weights. Other weight files are pickles"
        in error
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", None])
def test_a_folder_without_safetensors_says_what_it_has(bundle, tmp_path, name):
    shutil.copy(bundle / "config.json", tmp_path)
    trained = load_file(bundle / "model.safetensors")
    if name is None:
        with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors; use a folder that"):
            timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
        return
    torch.save(trained, tmp_path / name)
    with pytest.raises(ValueError, match=r"but pytorch_model\.bin.*source='file', file='.*pytorch_model\.bin'"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    named = {"source": "file", "file": str(tmp_path / name)}
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, pretrained_cfg_overlay=named)
    assert all(torch.equal(value, trained[key]) for key, value in model.state_dict().items())


def test_pretrained_psn_resnet50_has_timms_weights_in_every_tensor_of_its_backbone(hub, load):
    stock = timm.create_model("resnet50", num_classes=1000).state_dict()
    for value in stock.values():
        value.copy_(torch.rand(value.shape) if value.is_floating_point() else value)
    hub.seed("timm/resnet50.tv_in1k", {"model.safetensors": save(stock)})
    _, state = load("psn_resnet50", num_classes=174)
    for name, value in stock.items():
        if not name.startswith("fc."):
            assert torch.equal(state[f"backbone.{name}"], value), name
    assert state["backbone.fc.weight"].shape == (174, 2048)
    assert not any(value.any() for name, value in state.items() if name.endswith("expand.weight"))
    assert hub.count("HEAD", "/timm/resnet50.tv_in1k/resolve/main/model.safetensors") == hub.count("GET", "/cdn/") == 1


NAME = "psn_resnet18_sthv1"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A model under a data set's name, with settings of its own."""
    folder = tmp_path_factory.mktemp("small")
    model = timm.create_model(NAME, layers=(1, 1, 1, 1), num_frames=3, sites=("layer1",))
    save_for_hf(model, str(folder), {"label_names": [f"class {i}" for i in range(174)]}, safe_serialization=True)
    return folder


def test_a_namespace_in_the_environment_stands_for_all_names(hub, small, load):
    hub.seed(f"{USER}/{NAME}", content(small))
    assert "none are published" in load(NAME)
    environment = {"TIMM_VIDEO_PSN_HUB": USER}
    facts, state = load(NAME, environment=environment)
    assert (facts["num_frames"], facts["num_classes"]) == (3, 174)
    assert facts["args"]["layers"] == [1, 1, 1, 1]  # what timm writes when the model is saved again
    assert facts["cfg"]["label_names"][5] == "class 5"
    trained = load_file(small / "model.safetensors")
    assert all(torch.equal(state[key], trained[key]) for key in trained)
    assert load(NAME, environment=environment, num_classes=5, num_frames=2)[0]["num_classes"] == 5
    missing = load("psn_resnet50_k400", environment=environment)
    assert f"{USER}/psn_resnet50_k400" in missing
    hub.seed(f"{USER}/psn_resnet18_sthv2", content(small))
    other = load("psn_resnet18_sthv2", environment=environment)
    assert f"is a {NAME}, but psn_resnet18_sthv2 was asked for" in other
    assert "is not a user or organisation of the Hub" in load(NAME, environment={"TIMM_VIDEO_PSN_HUB": "a/b"})


def test_registered_weights_are_what_their_name_loads_from_then_on(
    hub, client, load, small, bundle, tmp_path, monkeypatch
):
    manifest = tmp_path / "published_weights.json"
    shutil.copy(Path(timm_video_psn.__file__).parent / "models" / "published_weights.json", manifest)
    before = manifest.read_text()

    def publish(folder):
        return client(clients.publish, str(folder), "--repo-id", f"{USER}/sthv1", "--register", str(manifest))

    assert "does not list psn_test_resnet, so --register cannot be used" in publish(bundle).output
    assert "was trained with other settings than its name stands for" in publish(small).output
    assert (hub.repositories, manifest.read_text()) == ({}, before)

    whole, model = tmp_path / "whole", timm.create_model(NAME)
    preprocessing = {"input_size": (3, 32, 32)}  # the example clip is of this size
    config = {"label_names": [f"class {i}" for i in range(174)], "pretrained_cfg": preprocessing}
    save_for_hf(model, str(whole), config, safe_serialization=True)
    outcome = publish(whole)
    assert outcome.value == 0, outcome.output
    entries = json.loads(manifest.read_text())
    commit = hub.repositories[f"{USER}/sthv1"].branches["main"]
    sha256 = file_sha256(whole / "model.safetensors")
    assert entries[NAME] == {"repo": f"{USER}/sthv1", "revision": commit, "sha256": sha256}
    assert {value for name, value in entries.items() if name != NAME} == {None}

    original, elsewhere = hub.fault_for, tmp_path / "elsewhere" / "published_weights.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(before)

    def take_away(method, path):
        if "/commit/" in path:
            shutil.rmtree(elsewhere.parent)
        return original(method, path)

    monkeypatch.setattr(hub, "fault_for", take_away)
    arguments = (str(whole), "--repo-id", f"{USER}/again", "--register", str(elsewhere))
    unwritten = client(clients.publish, *arguments)
    assert unwritten.value == 2
    assert re.search(
        r"published_weights\.json.*\n.*The commit \w{40} is on main of someone/again, complete", unwritten.output
    )

    zoo = {"function": clients.load_from_zoo, "before": (str(manifest),)}
    facts, state = load(NAME, **zoo)
    assert facts["cfg"]["hf_hub_id"] == f"{USER}/sthv1@{commit}"
    assert facts["cfg"]["label_names"][5] == "class 5"
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())

    entries[NAME]["sha256"] = sha256[::-1]
    manifest.write_text(json.dumps(entries))
    assert f"expected {sha256[::-1]}" in load(NAME, **zoo)
