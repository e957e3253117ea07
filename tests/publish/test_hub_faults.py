"""Faults of the Hub while a model is loaded: each is a sentence that names the file and the remedy."""

import json
import os
from pathlib import Path

import pytest

from tests.publish import clients
from tests.publish.loopback_hub import TOKEN, USER, Fault

REPO = f"{USER}/psn-motion"
SHIPPED = Path(__file__).parents[2] / "timm_video_psn" / "weights" / "psn_test_resnet.motion"


@pytest.fixture
def published(hub):
    """A model on the Hub."""
    return hub.seed(REPO, {path.name: path.read_bytes() for path in SHIPPED.iterdir()})


@pytest.fixture
def load(client, tmp_path):
    """Loads a model as predict does, with a cache of the test's own; the error, or ""."""

    def run(source=f"hf-hub:{REPO}", token="", **environment):
        cache = str(tmp_path / "cache")
        return client(clients.load_trained, source, cache, token=token, **environment).error

    return run


def cached(tmp_path: Path) -> Path:
    """The config in the cache."""
    (path,) = (tmp_path / "cache").rglob("snapshots/*/config.json")
    return path


@pytest.mark.parametrize("where", ["config.json", "model.safetensors"])
@pytest.mark.parametrize(
    ("method", "what", "sentence"),
    [
        ("HEAD", "drop", "the Hub cannot be reached, or fell silent; check the network, and try again (RemoteProtocol"),
        ("HEAD", "hang", "the Hub cannot be reached, or fell silent; check the network, and try again (TimeoutError"),
        ("HEAD", 503, "the Hub answers HTTP 503; try again later"),
        ("HEAD", 401, "no such repository, or none that you may see (HTTP 401); check the name; for a private one run"),
        ("HEAD", 403, "does not let you read it (HTTP 403); ask for access on the repository's page, and run `hf auth"),
    ],
    ids=["dropped", "silent", "out of order", "unknown token", "forbidden"],
)
def test_a_fault_is_a_sentence_and_the_next_try_succeeds(hub, published, load, where, method, what, sentence):
    hub.faults.append(Fault(method, where, what, 50))
    error = load()
    assert error.startswith("HubError: ")
    assert f"{where} of {REPO}: " in error
    assert sentence in error
    assert "Traceback" not in error
    hub.faults.clear()
    assert load() == ""


@pytest.mark.parametrize("what", ["drop", "hang", 500])
def test_a_fault_in_the_middle_of_a_download_is_a_sentence(hub, published, load, what):
    hub.faults.append(Fault("GET", "/cdn/", what, 50))
    assert load().startswith(f"HubError: model.safetensors of {REPO}: ")
    hub.faults.clear()
    assert load() == ""


def test_what_is_not_there_is_said(hub, published, load):
    assert "config.json of someone/other: the Hub has no such repository, or none that you may see" in load(
        "hf-hub:someone/other", token=TOKEN
    )
    assert "no such branch, tag or commit; check what follows @" in load(f"hf-hub:{REPO}@v9")
    assert "this is not the name of a repository; use user/name" in load("hf-hub:a/b/c")
    hub.seed("someone/data", {"README.md": b"a data set"})
    assert "config.json of someone/data: the repository has no such file; use a repository of a model" in load(
        "hf-hub:someone/data"
    )


def test_a_model_in_the_cache_needs_no_hub(hub, published, load):
    assert load() == ""
    for what in ("drop", "hang", 503):
        hub.faults.append(Fault("HEAD", "config.json", what, 50))
        assert load() == ""
        hub.faults.clear()


class TestADamagedConfigInTheCache:
    @pytest.mark.parametrize("content", [b"", b'{"architecture": "psn', b"[]"])
    def test_is_replaced(self, hub, published, load, tmp_path, content):
        assert load() == ""
        path = cached(tmp_path)
        path.write_bytes(content)
        assert load() == ""
        assert json.loads(cached(tmp_path).read_text())["num_classes"] == 12

    def test_is_named_with_the_remedy_where_the_hub_is_away(self, hub, published, load, tmp_path):
        assert load() == ""
        path = cached(tmp_path)
        path.write_bytes(b"{")
        hub.faults.append(Fault("HEAD", "config.json", "drop", 50))
        error = load()
        assert error.startswith("HubError: ")
        assert f"{path} is not valid JSON in UTF-8" in error
        assert f"Or delete {path}, and try again" in error
        hub.faults.clear()
        assert load() == ""


def test_a_damaged_config_on_the_hub_is_named_and_mended_there_it_loads(hub, published, load):
    files = hub.repositories[REPO].files()
    hub.seed(REPO, {**files, "config.json": b"{"})
    error = load()
    assert error.startswith(f"ValueError: {REPO} on the Hub holds a file that cannot be used: ")
    assert "config.json is not valid JSON in UTF-8" in error
    hub.seed(REPO, files)
    assert load() == ""


def test_a_config_of_a_stranger_is_checked(hub, published, load):
    files = hub.repositories[REPO].files()
    config = json.loads(files["config.json"])
    for change, sentence in (
        ({"label_names": ["one"]}, "label_names has 1 names, num_classes is 12"),
        ({"model_args": {"checkpoint_path": os.devnull}}, "checkpoint_path is not an argument of a network"),
    ):
        hub.seed(REPO, {**files, "config.json": json.dumps({**config, **change}).encode()})
        assert sentence in load()
    assert hub.count("GET", "/cdn/") == 0  # nothing else was downloaded
