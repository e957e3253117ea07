"""The manifest of published weights."""

import json

import pytest
import timm

from timm_video_psn.models.published_weights import Published, find_published, read_manifest

ENTRY = {"repo": "user/name", "revision": "0" * 40, "sha256": "1" * 64}


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest with one entry beside one that is not published."""

    def write(entry):
        path = tmp_path / "published_weights.json"
        path.write_text(json.dumps({"psn_a": entry, "psn_b": None}))
        return path

    return write


def test_the_package_lists_every_name_of_a_data_set_and_claims_no_weights_that_are_not_there():
    entries = read_manifest()
    assert set(entries) == set(timm.list_models(module="psn_datasets"))
    published = {name for name, entry in entries.items() if entry}
    assert set(timm.list_models(module="psn_datasets", pretrained=True)) == published


def test_an_entry_is_a_commit_of_a_repository(manifest):
    path = manifest(ENTRY)
    assert find_published("psn_a", path) == Published("user/name", "0" * 40, "1" * 64)
    assert find_published("psn_a", path).hub_id == "user/name@" + "0" * 40
    assert find_published("psn_b", path) is None
    assert find_published("psn_unheard_of", path) is None


def test_a_namespace_of_ones_own_comes_first(manifest, monkeypatch):
    monkeypatch.setenv("TIMM_VIDEO_PSN_HUB", "me")
    path = manifest(ENTRY)
    assert find_published("psn_a", path) == Published("me/name")  # the newest there: its config.json knows the sha256
    assert find_published("psn_b", path).hub_id == "me/psn_b"
    monkeypatch.setenv("TIMM_VIDEO_PSN_HUB", "me/too")
    with pytest.raises(ValueError, match="TIMM_VIDEO_PSN_HUB='me/too' is not a user or organisation of the Hub"):
        find_published("psn_a", path)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("user/name", "psn_a has 'user/name'; accepted are null, or a dict of repo, revision, sha256"),
        ({"repo": "user/name"}, "accepted are null, or a dict"),
        ({**ENTRY, "extra": 1}, "accepted are null, or a dict"),
        ({**ENTRY, "repo": "name"}, "psn_a has repo='name', which does not match"),
        ({**ENTRY, "revision": "main"}, "psn_a has revision='main', which does not match"),  # can change
        ({**ENTRY, "sha256": None}, "psn_a has sha256=None, which does not match"),
    ],
)
def test_a_malformed_entry_is_named(manifest, entry, text):
    with pytest.raises(ValueError, match=text):
        read_manifest(manifest(entry))
