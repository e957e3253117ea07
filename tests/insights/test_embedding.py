"""Embeddings: scores against plain loops, the picture and the page in a browser."""

import numpy as np
import pytest
from PIL import Image

from tests.browser import requested_hosts
from tests.insights.tiny_runs import CLASSES, LONG_NAMES, assert_all_is_in_the_picture
from timm_video_psn.data import read_index
from timm_video_psn.insights.embedding import (
    Embedding,
    cluster_scores,
    draw_embedding,
    embed,
    save_embedding_page,
)
from timm_video_psn.insights.results import Features


@pytest.fixture
def index(class_folders):
    return read_index("folder", class_folders, "val")


def silhouette(values: np.ndarray, labels: np.ndarray) -> float:
    """Rousseeuw's formula, point by point."""
    scores = []
    for i, own in enumerate(labels):
        distance = np.linalg.norm(values - values[i], axis=1)
        inside = distance[(labels == own) & (np.arange(len(labels)) != i)]
        nearest = min(distance[labels == other].mean() for other in set(labels) - {own})
        scores.append((nearest - inside.mean()) / max(nearest, inside.mean()))
    return float(np.mean(scores))


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
    return Features(values, 9.0 * np.eye(3)[labels], labels, np.arange(count) % 9)


def test_neighbours_in_the_features_are_neighbours_in_the_picture():
    features = made_up(0)
    found = embed(features)
    assert found.points.shape == (30, 2)
    assert cluster_scores(found.points, features.labels)[1] == 1
    assert np.array_equal(found.points, embed(features).points)  # the same seed, the same picture
    with pytest.raises(ValueError, match="3 videos are too few for t-SNE"):
        embed(Features(features.values[:3], features.logits[:3], features.labels[:3], features.index[:3]))


@pytest.mark.parametrize(("count", "legends"), [(20, 1), (21, 0)])
def test_a_legend_has_a_colour_for_each_class_and_its_place(count, legends, tmp_path, figures):
    labels = np.arange(60) % count
    features = Features(np.zeros((60, 2)), np.eye(count)[labels], labels, np.arange(60))
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
