"""Embeddings: features against a plain forward, scores against plain loops, the page in a browser."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.browser import requested_hosts
from tests.insights.tiny_runs import CLASSES, LONG_NAMES, assert_all_is_in_the_picture
from timm_video_psn.data import read_index
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.insights.embedding import (
    Embedding,
    Features,
    cluster_scores,
    create_feature_loader,
    draw_embedding,
    embed,
    extract_features,
    save_embedding_page,
)


def silhouette(values: np.ndarray, labels: np.ndarray) -> float:
    """Rousseeuw's formula, point by point."""
    scores = []
    for i, own in enumerate(labels):
        distance = np.linalg.norm(values - values[i], axis=1)
        inside = distance[(labels == own) & (np.arange(len(labels)) != i)]
        nearest = min(distance[labels == other].mean() for other in set(labels) - {own})
        scores.append((nearest - inside.mean()) / max(nearest, inside.mean()))
    return float(np.mean(scores))


@pytest.fixture
def index(class_folders):
    return read_index("folder", class_folders, "val")


def test_features_are_what_the_classifier_sees(trained, index):
    features = extract_features(trained, create_feature_loader(trained, index, workers=0))
    assert features.values.shape == (9, trained.model.num_features)
    assert features.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    clip = trained.precision.clip(trained.read(index.root / index.paths[4]).frames[None])
    with torch.inference_mode():
        logits = trained.model(clip)[0]
    again = trained.model.get_classifier()(torch.from_numpy(features.values[4]))  # mean of logits = logits of the mean
    torch.testing.assert_close(again.detach(), logits, atol=1e-5, rtol=1e-4)
    assert features.predicted[4] == logits.argmax()


def test_videos_without_labels_are_not_given_the_last_class(trained, index):
    unknown = replace(index, labels=np.full_like(index.labels, -1))
    with pytest.raises(ValueError, match="this split has videos without labels"):
        extract_features(trained, create_feature_loader(trained, unknown, limit=2))


def test_videos_of_shards_give_the_features_that_files_give(trained, index, class_folders, tmp_path):
    write_shards("folder", {"val": index}, tmp_path / "shards", ShardLimits(4, 1 << 20))
    packed = read_index("shards", tmp_path / "shards", "val")
    for limit, numbers in ((None, range(9)), (3, (0, 4, 8))):
        features = extract_features(trained, create_feature_loader(trained, packed, limit, workers=0))
        expected = extract_features(trained, create_feature_loader(trained, index, limit, workers=0))
        order = np.argsort(features.index)
        assert features.index[order].tolist() == expected.index.tolist() == list(numbers)
        np.testing.assert_allclose(features.values[order], expected.values, atol=1e-5)


def test_a_limit_spreads_over_the_data_set_and_unreadable_videos_are_counted(trained, index, class_folders, tmp_path):
    features = extract_features(trained, create_feature_loader(trained, index, limit=3))
    assert features.index.tolist() == [0, 4, 8]
    import shutil

    shutil.copytree(class_folders, tmp_path / "copy")
    (tmp_path / "copy" / CLASSES[0] / "1.mp4").write_bytes(b"no video")
    unreadable = read_index("folder", tmp_path / "copy", "val")
    features = extract_features(trained, create_feature_loader(trained, unreadable, workers=0))
    assert (features.num_unreadable, len(features.labels)) == (1, 8)


def test_scores_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 8)
    values = rng.standard_normal((24, 5)) + 1.2 * labels[:, None]
    found, neighbours = cluster_scores(values, labels)
    assert found == pytest.approx(silhouette(values, labels))
    hits = 0
    for i, point in enumerate(values):
        order = [j for j in np.argsort(np.linalg.norm(values - point, axis=1)) if j != i][:5]
        votes = {label: sum(labels[j] == label for j in order) for label in set(labels[order])}
        best = [label for label in votes if votes[label] == max(votes.values())]
        hits += labels[next(j for j in order if labels[j] in best)] == labels[i]
    assert neighbours == pytest.approx(hits / 24)


def test_classes_that_lie_apart_score_high_and_one_class_has_no_silhouette():
    labels = np.repeat([0, 1], 10)
    values = np.random.default_rng(0).standard_normal((20, 3)) + 100 * labels[:, None]
    silhouette_score, neighbours = cluster_scores(values, labels)
    assert silhouette_score > 0.9
    assert neighbours == 1
    assert np.isnan(cluster_scores(values, np.zeros(20, dtype=int))[0])


def made_up(seed: int, count: int = 30) -> Features:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = rng.standard_normal((count, 6)) + 20 * np.eye(3, 6)[labels]
    return Features(values, labels, np.arange(count) % 9, labels)


def test_neighbours_in_the_features_are_neighbours_in_the_picture():
    features = made_up(0)
    found = embed(features)
    assert found.points.shape == (30, 2)
    assert cluster_scores(found.points, features.labels)[1] == 1
    assert np.array_equal(found.points, embed(features).points)  # the same seed, the same picture
    with pytest.raises(ValueError, match="3 videos make no map"):
        embed(
            Features(*(column[:3] for column in (features.values, features.labels, features.index, features.predicted)))
        )


@pytest.mark.parametrize(("count", "legends"), [(20, 1), (21, 0)])
def test_a_legend_has_a_colour_for_each_class_and_its_place(count, legends, tmp_path, figures):
    labels = np.arange(60) % count
    features = Features(np.zeros((60, 2)), labels, np.arange(60), labels)
    found = Embedding(np.random.default_rng(0).random((60, 2)), 0.5, 0.5)
    draw_embedding({"one": (features, found), "two": (features, found)}, LONG_NAMES[:count], tmp_path / "e.png")
    (figure,) = figures
    found = [axes.get_legend() for axes in figure.axes if axes.get_legend() is not None]
    assert len(found) == legends
    assert all(len({text.get_text() for text in legend.get_texts()}) == count for legend in found)
    assert all(axes.get_position().width > 0.3 for axes in figure.axes)
    assert_all_is_in_the_picture(figure)


def test_the_page_shows_both_models_and_asks_nobody(index, tmp_path, browser):
    models = {}
    for name, seed in (("one", 0), ("</script>two", 1)):
        features = made_up(seed)
        models[name] = features, embed(features)
    with Image.open(draw_embedding(models, CLASSES, tmp_path / "embedding.png")) as picture:
        assert picture.size == (1220, 520)
    browser.get(save_embedding_page(models, index, tmp_path / "embedding.html").as_uri())
    assert requested_hosts(browser) <= {None, ""}
    assert browser.execute_script("return document.querySelectorAll('svg').length") == 2
    circles = browser.find_elements("tag name", "circle")
    assert len(circles) == 60
    from selenium.webdriver import ActionChains

    ActionChains(browser).move_to_element(circles[1]).perform()
    tip = browser.find_element("class name", "tip").text
    assert tip.splitlines() == [f"{CLASSES[0]}/1.mp4", f"class: {CLASSES[1]}", f"prediction: {CLASSES[1]}"]
    assert len(browser.find_elements("css selector", "circle.marked")) > 1  # the same video in the other panel
    browser.find_elements("css selector", ".classes span")[2].click()
    assert len(browser.find_elements("css selector", "circle.pale")) == 40
    errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert errors == []
