"""What a model makes of videos: features against a plain forward, the hardest and the surest video."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.insights.tiny_runs import CLASSES
from timm_video_psn.data import read_index
from timm_video_psn.data.shards.writer import ShardLimits, write_shards
from timm_video_psn.engine.evaluate.accuracy import measure
from timm_video_psn.insights.results import (
    create_feature_loader,
    extract_features,
    film_strip,
    hardest_videos,
    scores_of,
    surest_video,
)


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
    shutil.copytree(class_folders, tmp_path / "copy")
    (tmp_path / "copy" / CLASSES[0] / "1.mp4").write_bytes(b"no video")
    unreadable = read_index("folder", tmp_path / "copy", "val")
    features = extract_features(trained, create_feature_loader(trained, unreadable, workers=0))
    assert (features.num_unreadable, len(features.labels)) == (1, 8)


def test_the_scores_are_those_of_a_prediction(trained, index):
    features = extract_features(trained, create_feature_loader(trained, index, workers=0))
    scores = scores_of(trained, index, features)
    assert (scores.protocol, scores.num_expected) == (str(trained.protocol), 9)
    for row, path in enumerate(scores.videos):
        found = trained.predict(index.root / path, topk=3)
        expected = {item.label: item.probability for item in found.top}
        assert dict(zip(CLASSES, features.probabilities[row].tolist(), strict=True)) == pytest.approx(
            expected, abs=1e-5
        )
    assert measure(scores).num_videos == 9


def test_the_hardest_videos_are_wrong_and_the_surest_is_right(trained, index):
    features = extract_features(trained, create_feature_loader(trained, index, workers=0))
    # videos 0 to 2 are named rightly, the last of them most surely; of the others, 4 is furthest off
    logits = np.full((9, 3), 0.0, np.float32)
    logits[np.arange(3), features.labels[:3]] = [1, 2, 3]
    logits[np.arange(3, 9), (features.labels[3:] + 1) % 3] = [1, 6, 2, 3, 4, 5]
    made_up = replace(features, logits=logits)
    found = hardest_videos(trained, index, made_up, count=3)
    assert [one.path for one in found] == [index.paths[number] for number in (4, 8, 7)]
    assert all(one.label != one.predicted and one.own_probability < one.probability for one in found)
    assert found[0].strip.shape == (32, 4 * 32 + 3 * 2, 3)
    assert surest_video(index, made_up) == index.root / index.paths[2]


def test_a_strip_shows_the_beginning_and_the_end():
    frames = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 5, 5, 3), np.uint8)
    strip = film_strip(frames)
    assert [int(strip[0, 7 * place, 0]) for place in range(4)] == [0, 2, 5, 7]
    assert film_strip(frames[:1]).shape == (5, 5, 3)
