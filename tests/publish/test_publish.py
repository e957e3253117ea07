"""hub/publish.py against a Hub on the loopback: what arrives, what comes back, and what is there after a failure."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

import timm_video_psn  # noqa: F401 - registers the models
from tests.publish import clients
from tests.publish.loopback_hub import TOKEN, USER, Fault
from timm_video_psn.publish.model_card import CardFacts, write_card

REPO = f"{USER}/psn-motion"
FILES = {
    "README.md",
    "config.json",
    "curves.png",
    "interactions.png",
    "labels.json",
    "model.safetensors",
    "summary.csv",
    "test_io.safetensors",
}


PLAIN = FILES - {"interactions.png", "summary.csv", "curves.png"}


@pytest.fixture
def publish(client, best):
    """Publishes the trained model."""
    return lambda *more, folder=best, **kwargs: client(clients.publish, str(folder), "--repo-id", REPO, *more, **kwargs)


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """A model without synthesizers and records, which is published in no time: nothing has to be drawn."""
    folder = tmp_path_factory.mktemp("plain")
    config = {"label_names": ["a", "b", "c"], "pretrained_cfg": {"input_size": (3, 32, 32)}}
    save_for_hf(
        timm.create_model("tsm_test_resnet", num_classes=3, num_frames=2), str(folder), config, safe_serialization=True
    )
    return folder


@pytest.fixture
def publish_plain(publish, plain):
    """Publishes that model."""
    return lambda *more, **kwargs: publish(*more, folder=plain, **kwargs)


def files(hub, revision="main"):
    return {path: data for path, data in hub.repositories[REPO].files(revision).items() if path != ".gitattributes"}


def test_what_is_published_comes_back_the_same_and_is_not_sent_again(hub, publish, client, best, tmp_path):
    first = publish("--tag", "v1", "--license", "cc-by-nc-4.0")
    assert first.value == 0, first.output
    assert "uploaded in one commit" in first.output
    assert "downloaded into an empty cache: files and logits are the same" in first.output
    repository = hub.repositories[REPO]
    assert len(repository.commits) == 2  # that of the creation, and ours
    assert repository.tags == {"v1": repository.branches["main"]}
    assert not repository.private
    assert hub.count("POST", "/complete") == 1  # the weights went in parts, the other files in one piece
    there = files(hub)
    assert there.keys() == FILES
    assert there["model.safetensors"] == (best / "model.safetensors").read_bytes()
    assert there["summary.csv"] == (best.parent / "summary.csv").read_bytes()

    config, trained = json.loads(there["config.json"]), json.loads((best / "config.json").read_text())
    assert json.loads(there["labels.json"]) == trained["label_names"] == config["label_names"]
    assert config["weights"]["sha256"] == repository.commits[repository.branches["main"]]["model.safetensors"].sha256
    assert config["pretrained_cfg"]["license"] == "cc-by-nc-4.0"
    assert {key: config[key] for key in ("recipe", "video", "metrics")} == {
        key: trained[key] for key in ("recipe", "video", "metrics")
    }

    saved = str(tmp_path / "model.pt")
    loaded = client(clients.load, f"hf-hub:{REPO}", str(tmp_path / "cache"), saved, {}, token="")
    assert loaded.error == ""
    assert list(loaded.value["cfg"]["label_names"]) == trained["label_names"]
    assert loaded.value["cfg"]["hf_hub_id"] == f"{REPO}@{repository.branches['main']}"
    expected, state = load_file(best / "model.safetensors"), torch.load(saved)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)

    before = len(hub.requests)
    again = publish("--tag", "v1", "--license", "cc-by-nc-4.0")
    assert again.value == 0, again.output
    assert "no commit has been made" in again.output
    assert len(repository.commits) == 2
    assert not [line for line in hub.requests[before:] if line.startswith("PUT") or "/commit/" in line]

    before = len(hub.requests)
    changed = publish("--license", "apache-2.0")
    assert changed.value == 0, changed.output
    assert len(repository.commits) == 3
    assert "README.md, config.json\n" in changed.output
    assert not [line for line in hub.requests[before:] if line.startswith("PUT")]
    taken = publish("--license", "mit", "--tag", "v1")
    assert taken.value == 2
    assert "the tag v1 of someone/psn-motion already names commit" in taken.output
    assert len(repository.commits) == 3


def test_the_example_holds_the_logits_of_the_trained_model(hub, publish, best, tmp_path):
    assert publish("--dry-run", str(tmp_path / "dry")).value == 0
    assert publish("--dry-run", str(tmp_path / "dry")).value == 0  # over its own files
    assert hub.requests == []
    assert {path.name for path in (tmp_path / "dry").iterdir()} == FILES
    example = load_file(tmp_path / "dry" / "test_io.safetensors")
    assert example["clip"].shape == (1, 3, 4, 32, 32)
    model = timm.create_model(f"local-dir:{best}", pretrained=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(example["clip"]), example["logits"])
    replaced = publish("--dry-run", f"{best}/../best")
    assert replaced.value == 2
    assert "is the folder to publish; name another" in replaced.output
    (tmp_path / "dry" / "stranger.txt").touch()
    refused = publish("--dry-run", str(tmp_path / "dry"))
    assert (refused.value, (tmp_path / "dry" / "stranger.txt").exists()) == (2, True)
    assert "holds other files (stranger.txt)" in refused.output


def test_the_card_has_every_number_with_its_protocol_and_valid_metadata(hub, publish, best, tmp_path):
    assert publish("--dry-run", str(tmp_path)).value == 0
    text = (tmp_path / "README.md").read_text()
    data = yaml.safe_load(text.split("---\n")[1])
    assert (data["pipeline_tag"], data["library_name"], data["datasets"]) == (
        "video-classification",
        "timm",
        ["motion"],
    )
    assert "license" not in data  # nobody has stated one: neither timm's nor that of our code is a claim to make
    assert "license" not in json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert "the publisher has stated none" in text
    assert "base_model" not in data  # random weights

    metrics = json.loads((best / "config.json").read_text())["metrics"]
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert [round(metrics[key], 2) for key in ("val_top1", "val_top5", "val_pair_top1")] == [
        result.metric_value for result in results
    ]
    assert all(metrics["protocol"] in result.metric_name for result in results)
    assert {result.dataset_type for result in results} == {"motion"}
    assert text.count(f"% | not computed | {metrics['protocol']} |") == 3
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    weights = load_file(best / "model.safetensors")
    model_size = sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(buffers))
    for part in (
        f"| parameters | {model_size / 1e6:.2f} M |",
        "import timm, timm_video_psn",
        f'timm.create_model("hf-hub:{REPO}", pretrained=True)',
        f"timm-video-psn predict some.mp4 --model hf-hub:{REPO}",
        "Tian, Yuan and Zhai, Guangtao and Gao, Zhiyong",
        "opt: muon",
        "![Learning curves](curves.png)",
        "![Interactions](interactions.png)",
    ):
        assert part in text, part


@pytest.fixture
def results(best, tmp_path):
    """Writes a results.json as a validation does, for these classes."""

    def write(class_names, protocol="4x2x3@32/36 segments logits"):
        numbers = {
            "top1": {"value": 61.234, "low": 60.0, "high": 62.5},
            "pair_top1": {"value": 99, "low": 98, "high": 100},
        }
        test = {"protocol": protocol, "num_videos": 11, "num_expected": 12, "metrics": numbers}
        about = {
            "model": "/elsewhere/secret/best",
            "dataset": "motion",
            "dataset_version": "",
            "split": "val",
            "label_fingerprint": hashlib.sha256("\n".join(class_names).encode()).hexdigest(),
            "results": [{**test, "folder": "4x2x3"}],
        }
        (tmp_path / "results.json").write_text(json.dumps(about))
        return str(tmp_path / "results.json")

    return write


def test_numbers_of_tests_stand_beside_their_own_protocol(publish, best, results, tmp_path):
    names = json.loads((best / "config.json").read_text())["label_names"]
    assert publish("--dry-run", str(tmp_path / "dry"), "--results", results(names)).value == 0
    text = (tmp_path / "dry" / "README.md").read_text()
    assert "| top-1 | 61.23 % | 60.00 to 62.50 | 4x2x3@32/36 segments logits | motion, drawn by timm_video_psn" in text
    found = {item.metric_name: item.metric_value for item in ModelCard(text).data.eval_results}
    assert found["top-1, % (4x2x3@32/36 segments logits)"] == 61.23
    assert len(found) == 5
    assert "secret" not in (tmp_path / "dry" / "config.json").read_text()
    trained = json.loads((best / "config.json").read_text())["metrics"]["protocol"]
    assert publish("--dry-run", str(tmp_path / "dry"), "--results", results(names, trained)).value == 0
    found = ModelCard.load(tmp_path / "dry" / "README.md").data.eval_results
    metrics = [(item.metric_name, item.metric_value) for item in found]
    assert len(metrics) == len(dict(metrics)) == 3  # the test's number, not that and training's
    assert (f"top-1, % ({trained})", 61.23) in metrics
    wrong = publish("--dry-run", str(tmp_path / "dry"), "--results", results(names[::-1]))
    assert wrong.value == 2
    assert "or their order, differ from the model's label_names" in wrong.output
    about = json.loads(Path(results(names)).read_text())
    for weights, value in ((best / "model.safetensors", 0), (best / "config.json", 2)):
        about["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
        (tmp_path / "of_weights.json").write_text(json.dumps(about))
        found = publish("--dry-run", str(tmp_path / "dry"), "--results", str(tmp_path / "of_weights.json"))
        assert found.value == value
    assert "is the result of other weights" in found.output
    joined = tmp_path / "ensemble.json"
    joined.write_text(json.dumps({"ensemble": ["a.npz", "b.npz"], "label_fingerprint": "", "results": []}))
    refused = publish("--dry-run", str(tmp_path / "dry"), "--results", str(joined))
    assert "ensemble.json is the result of an ensemble" in refused.output
    no_results = publish("--dry-run", str(tmp_path / "dry"), "--results", str(best / "config.json"))
    assert "is not a results.json of timm-video-psn validate: KeyError" in no_results.output


@pytest.mark.parametrize(
    ("recipe", "base_model", "text"),
    [
        ({"model": "tsm_test_resnet", "pretrained": False}, None, "random weights"),
        ({"model": "tsm_test_resnet", "pretrained": True}, "timm/test_resnet.r160_in1k", "huggingface.co/timm/test_re"),
        ({"model": "tsm_test_resnet", "model_kwargs": {"backbone_pretrained": True}}, "timm/test_resnet.r160_in1k", ""),
        ({"model": "hf-hub:them/theirs@v2", "pretrained": True}, "them/theirs", "huggingface.co/them/theirs"),
        ({"model": "local-dir:mine", "pretrained": True}, None, "weights that are not on the Hub"),
        ({"model": "tsm_test_resnet", "initial_checkpoint": "last.pt"}, None, "weights that are not on the Hub"),
        ({"model": "tsm_test_resnet", "backbone_checkpoint": "a.pt"}, None, "weights that are not on the Hub"),
        (None, None, "| initial weights | not recorded |"),
    ],
)
def test_the_card_names_the_weights_that_training_started_from(publish, plain, tmp_path, recipe, base_model, text):
    folder = tmp_path / "best"
    shutil.copytree(plain, folder)
    config = json.loads((plain / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "recipe": recipe}))
    assert publish("--dry-run", str(tmp_path / "dry"), folder=folder).value == 0
    card = (tmp_path / "dry" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1]).get("base_model") == base_model
    assert text in card


def test_a_licence_that_the_hub_does_not_know_is_refused_before_anything_is_sent(hub, publish_plain):
    outcome = publish_plain("--license", "Apache 2.0")
    assert outcome.value == 2
    assert "license='Apache 2.0'; use the Hub's abbreviation, such as apache-2.0" in outcome.output
    assert hub.requests == []


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("no config", "is not a model folder: it has no config.json; use the folder of a run"),
        ("labels", "label_names has 11 names, num_classes is 12"),
        ("order of labels", "are not the classes that the model was trained on"),
        ("image model", "holds a ResNet; only video models of timm_video_psn can be published"),
        ("half a config", r"best.config\.json is not valid JSON in UTF-8 \(Unterminated string"),
        ("half the weights", r"best.model\.safetensors and its config\.json do not build a model: .*header"),
        ("unknown model", r"do not build a model: Unknown model \(psn_unheard_of\)"),
    ],
)
def test_what_cannot_be_published_is_said(hub, publish, best, tmp_path, what, text):
    folder = shutil.copytree(best, tmp_path / "best")
    config = json.loads((best / "config.json").read_text())
    if what == "no config":
        (folder / "config.json").unlink()
    elif what == "labels":
        (folder / "config.json").write_text(json.dumps({**config, "label_names": config["label_names"][1:]}))
    elif what == "order of labels":
        names = config["label_names"]
        config["label_fingerprint"] = hashlib.sha256("\n".join(names).encode()).hexdigest()
        (folder / "config.json").write_text(json.dumps({**config, "label_names": names[::-1]}))
    elif what == "half a config":
        (folder / "config.json").write_text((folder / "config.json").read_text()[:300])
    elif what == "half the weights":
        (folder / "model.safetensors").write_bytes((best / "model.safetensors").read_bytes()[:100_000])
    elif what == "unknown model":
        (folder / "config.json").write_text(json.dumps({**config, "architecture": "psn_unheard_of"}))
    elif what == "image model":
        save_for_hf(timm.create_model("test_resnet"), str(folder), safe_serialization=True)
    outcome = publish(folder=folder)
    assert outcome.value == 2
    assert re.search(text, outcome.output)
    assert hub.requests == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault("PUT", "/storage/", "drop"),
        Fault("POST", "/commit/", "drop"),
        Fault("POST", "/commit/", 503),
        Fault("POST", "/commit/", "lose"),
        Fault("POST", "/api/repos/create", "lose"),
        Fault("HEAD", "/resolve/", 503),
    ],
    ids=lambda fault: f"{fault.what}-{fault.method}",
)
def test_a_connection_that_breaks_once_is_made_up_for(hub, publish_plain, fault):
    hub.faults.append(fault)
    outcome = publish_plain()
    assert outcome.value == 0, outcome.output
    assert fault.times == 0
    assert files(hub).keys() == PLAIN
    assert len(hub.repositories[REPO].commits) == 2  # never a second commit for one that was only not answered


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault("PUT", "/storage/", 403, 9), "No commit has been made: someone/psn-motion is at"),
        (Fault("POST", "/commit/", "drop", 9), "No commit has been made: someone/psn-motion is at"),
        (Fault("POST", "/commit/", 400, 9), "No commit has been made: someone/psn-motion is at"),
        (Fault("POST", "/api/repos/create", 403, 9), "Nothing on the Hub has been changed."),
        (Fault("GET", "/refs", 403, 9), "the repository someone/psn-motion. No commit has been made."),
        (Fault("POST", "/api/validate-yaml", 400, 9), "Invalid metadata in README.md.\n- as the test wanted it"),
    ],
    ids=lambda item: f"{item.what}-{item.where}" if isinstance(item, Fault) else "",
)
def test_after_a_failure_nothing_is_half_published_and_the_next_try_succeeds(hub, publish_plain, fault, text):
    hub.faults.append(fault)
    outcome = publish_plain()
    assert outcome.value == 2
    assert text in outcome.output
    if REPO in hub.repositories:
        assert files(hub) == {}
        assert "Created on the way: the repository someone/psn-motion." in outcome.output
    hub.faults.clear()
    assert publish_plain().value == 0
    assert files(hub).keys() == PLAIN


def test_a_server_that_falls_silent_is_given_up_and_asked_again(hub, client, plain):
    hub.faults.append(Fault("POST", "/commit/", "hang"))
    outcome = client(clients.publish_impatiently, str(plain), "--repo-id", REPO)
    assert outcome.value == 0, outcome.output
    assert hub.count("POST", "/commit/") == 2
    assert len(hub.repositories[REPO].commits) == 2


def test_a_process_killed_in_the_middle_of_an_upload_leaves_nothing_half_published(hub, publish_plain, settings, plain):
    hub.faults.append(Fault("PUT", "/storage/", "hang"))
    command = [sys.executable, str(clients.ROOT / "hub" / "publish.py"), str(plain), "--repo-id", REPO]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    hub.hanging.clear()
    environment |= {**settings, "HF_TOKEN": TOKEN}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            assert hub.hanging.wait(timeout=90)
        finally:
            process.kill()
    assert files(hub) == {}
    assert publish_plain().value == 0
    assert files(hub).keys() == PLAIN


def test_who_interrupts_an_upload_is_told_what_is_there(hub, pool, client, plain):
    hub.faults.append(Fault("POST", "/commit/", "hang"))
    hub.hanging.clear()
    process = client(os.getpid).value
    arguments = (str(plain), "--repo-id", REPO)
    publishing = pool.submit(clients.call, clients.publish, arguments, {"HF_TOKEN": TOKEN})
    assert hub.hanging.wait(timeout=90)
    os.kill(process, signal.SIGINT)
    outcome = publishing.result(timeout=60)
    assert outcome.value == 130
    assert f"interrupted. Created on the way: the repository {REPO}. No commit has been made" in outcome.output
    assert files(hub) == {}


@pytest.mark.parametrize("what", ["truncate", "corrupt"])
def test_what_comes_back_damaged_is_noticed_and_said(hub, publish_plain, what):
    hub.faults.append(Fault("GET", "/cdn/", what, 99))
    outcome = publish_plain("--tag", "v1")
    assert outcome.value == 2
    assert ("Consistency check failed" if what == "truncate" else "came back from the Hub with different content") in (
        outcome.output
    )
    repository = hub.repositories[REPO]
    assert f"The commit {repository.branches['main']} is on main of {REPO}, complete" in outcome.output
    assert repository.tags == {}


def test_somebody_elses_commit_is_not_overwritten(hub, publish_plain, monkeypatch):
    assert publish_plain().value == 0
    repository = hub.repositories[REPO]
    theirs = dict(repository.commits[repository.branches["main"]])
    original = hub.fault_for

    def interfere(method, path):
        if method == "POST" and "/commit/" in path:
            repository.add_commit("main", {**theirs, "notes.txt": theirs["README.md"]})
        return original(method, path)

    monkeypatch.setattr(hub, "fault_for", interfere)
    outcome = publish_plain("--license", "mit")
    assert outcome.value == 2
    assert "somebody else has changed someone/psn-motion in the meantime" in outcome.output
    assert "by a commit that this run cannot vouch for" in outcome.output
    assert files(hub)["README.md"] == theirs["README.md"].data


@pytest.mark.parametrize("token", ["hf_WrongToken0123456789", "hf_Odd\x7fToken012345"])
@pytest.mark.parametrize("by", ["environment", "option"])
def test_a_wrong_token_is_refused_without_being_shown(hub, publish_plain, token, by):
    outcome = publish_plain(token=token) if by == "environment" else publish_plain("--token", token, token="")
    assert outcome.value == 2
    assert token not in outcome.output
    assert "Nothing on the Hub has been changed." in outcome.output
    assert hub.repositories == {}
    if token.isprintable():
        assert "the Hub does not accept the token (HTTP 401); create one with write permission" in outcome.output


def test_no_token_at_all_is_said(hub, publish_plain):
    outcome = publish_plain(token="")
    assert outcome.value == 2
    assert "not logged in to the Hub: run `hf auth login`" in outcome.output
    assert hub.repositories == {}


def test_a_private_repository_stays_private_and_is_never_published_by_mistake(hub, publish_plain, client, tmp_path):
    assert publish_plain("--private", "--token", TOKEN, token="").value == 0
    assert hub.repositories[REPO].private
    stranger = client(clients.load, f"hf-hub:{REPO}", str(tmp_path / "a"), str(tmp_path / "m.pt"), {}, token="")
    assert "401" in stranger.error
    owner = client(clients.load, f"hf-hub:{REPO}", str(tmp_path / "b"), str(tmp_path / "m.pt"), {})
    assert owner.error == ""
    hub.repositories[REPO].private = False
    outcome = publish_plain("--private", "--license", "mit")
    assert outcome.value == 2
    assert "is public, but --private was given" in outcome.output
    assert len(hub.repositories[REPO].commits) == 2


def test_a_run_stands_for_its_best_model(publish, best, tmp_path):
    assert publish("--dry-run", str(tmp_path / "dry"), folder=best.parent).value == 0
    assert {path.name for path in (tmp_path / "dry").iterdir()} == FILES


def test_a_folder_given_as_a_dot_is_the_best_of_its_run_too(client, best, tmp_path):
    outcome = client(clients.publish_from, str(best), ".", "--repo-id", REPO, "--dry-run", str(tmp_path / "dry"))
    assert outcome.value == 0, outcome.output
    assert {path.name for path in (tmp_path / "dry").iterdir()} == FILES


def test_another_branch_leaves_main_alone(hub, publish_plain):
    assert publish_plain("--revision", "candidate").value == 0
    assert files(hub) == {}
    assert files(hub, "candidate").keys() == PLAIN


def test_files_that_are_no_longer_made_go_and_those_of_others_stay(hub, publish, best, tmp_path):
    assert publish().value == 0
    repository = hub.repositories[REPO]
    there = dict(repository.commits[repository.branches["main"]])
    repository.add_commit("main", {**there, "demo.gif": there["curves.png"]})
    folder = tmp_path / "plain"
    shutil.copytree(best, folder)  # without the files of the run beside it
    outcome = publish(folder=folder)
    assert outcome.value == 0, outcome.output
    assert files(hub).keys() == FILES - {"summary.csv", "curves.png"} | {"demo.gif"}
    assert b"curves.png" not in files(hub)["README.md"]


def test_weights_that_differ_in_one_bit_are_another_upload(hub, publish, plain, tmp_path):
    assert publish(folder=plain).value == 0
    folder = tmp_path / "best"
    shutil.copytree(plain, folder)
    state = load_file(folder / "model.safetensors")
    state["backbone.fc.bias"][0] += 1e-3
    save_file(state, folder / "model.safetensors")
    outcome = publish(folder=folder)
    assert outcome.value == 0, outcome.output
    assert files(hub)["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert "config.json" in outcome.output


def test_a_model_without_synthesizers_and_records_gets_a_card_that_says_so(publish_plain, tmp_path):
    outcome = publish_plain("--dry-run", str(tmp_path / "dry"))
    assert outcome.value == 0, outcome.output
    assert {path.name for path in (tmp_path / "dry").iterdir()} == PLAIN
    card = (tmp_path / "dry" / "README.md").read_text()
    assert ".png" not in card
    for part in ("None were recorded.", "The recipe was not recorded.", "| initial weights | not recorded |"):
        assert part in card
    assert "model-index" not in card


NASTY = "<img src=x onerror=alert(1)> | [a](javascript:alert(2)) ![b](http://evil/c) `d` \x1b[2J"


@pytest.mark.parametrize("origin", [None, {"source": NASTY, "repository": NASTY, "file": NASTY, "sha256": NASTY}])
def test_text_of_strangers_is_text_on_the_card(plain, tmp_path, origin):
    MarkdownIt = pytest.importorskip("markdown_it").MarkdownIt
    config = json.loads((plain / "config.json").read_text())
    config |= {
        "dataset": NASTY,
        "dataset_version": NASTY,
        "video": {"sampling": NASTY},
        "versions": {NASTY: NASTY},
        "metrics": {"val_top1": 50.0, "val_videos": NASTY, "val_expected": 1, "protocol": NASTY},
        "recipe": {"model": f"hf-hub:{NASTY}", "pretrained": True, "notes": f"```\n{NASTY}\n\n  ````\n{NASTY}"},
        **({"converted_from": origin} if origin else {}),
    }
    facts = CardFacts("a/b", config, 1, 1, (1, 3, 4, 32, 32), None, None, ("README.md",))
    write_card(facts, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text()
    assert text.replace("\n", "").isprintable()
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("---\n", 2)[2])
    assert not re.search(r'<img|javascript:[^<]*"|href="http://evil', body)
    assert [row.count("<td>") for row in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)] == [0, *[2] * 7, 0, 7]
    assert body.count("onerror=alert(1)") >= 5  # shown as it is
