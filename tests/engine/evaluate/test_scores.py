"""Score files: written, read without pickles, aligned, joined by hand-made numbers."""

from dataclasses import replace

import numpy as np
import pytest

from timm_video_psn.engine.evaluate.scores import Scores, align, ensemble, load_scores, save_scores

CLASSES = ("cut", "pour", "stir")


def scores(values, labels=(0, 1), videos=("a.mp4", "b.mp4"), fusion="logits", classes=CLASSES, protocol="8x1x1"):
    return Scores(
        np.array(values, dtype=np.float32),
        np.array(labels, dtype=np.int64),
        tuple(videos),
        tuple(classes),
        protocol,
        fusion,
        num_expected=len(videos),
    )


FIRST = scores([[2, 1, 0], [0, 1, 2]])


def test_a_file_comes_back_as_it_was_and_needs_no_pickle(tmp_path):
    path = tmp_path / "scores.npz"
    save_scores(path, FIRST)
    again = load_scores(path)
    assert np.array_equal(again.scores, FIRST.scores)
    assert again.scores.dtype == np.float32
    assert np.array_equal(again.labels, FIRST.labels)
    for name in ("videos", "class_names", "protocol", "fusion", "num_expected"):
        assert getattr(again, name) == getattr(FIRST, name)
    with np.load(path, allow_pickle=False) as file:
        assert file["videos"].tolist() == ["a.mp4", "b.mp4"]
    assert [item.name for item in tmp_path.iterdir()] == ["scores.npz"]


def test_what_is_no_score_file_is_refused(tmp_path):
    path = tmp_path / "scores.npz"
    with pytest.raises(FileNotFoundError, match=r"scores\.npz not found"):
        load_scores(path)
    save_scores(path, FIRST)
    content = path.read_bytes()
    for wrong in (b"", b"no zip", content[:200], content[: len(content) // 2]):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="damaged or no score file"):
            load_scores(path)
    np.savez(path, scores=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="damaged or no score file"):
        load_scores(path)
    save_scores(path, scores([[2, 1, 0]], labels=(0, 1)))
    with pytest.raises(ValueError, match="do not fit 2 videos of 3 classes"):
        load_scores(path)


def test_the_same_videos_in_another_order_are_put_into_the_order_of_the_first():
    other = scores([[7, 8, 9], [4, 5, 6]], labels=(1, 0), videos=("b.mp4", "a.mp4"))
    _, aligned = align([FIRST, other], ("one", "two"))
    assert aligned.videos == FIRST.videos
    assert aligned.scores.tolist() == [[4, 5, 6], [7, 8, 9]]
    assert aligned.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (scores([[1, 2, 3]] * 2, videos=("a.mp4", "c.mp4")), r"only in one: b\.mp4; only in two: c\.mp4"),
        (
            scores([[1, 2, 3]], labels=(0,), videos=("a.mp4",)),
            r"not of the same videos \(2 and 1\): only in one: b\.mp4",
        ),
        (scores([[1, 2, 3]] * 2, labels=(0, 2)), r"labels of 1 videos, as b\.mp4: 1 and 2"),
        (scores([[1, 2, 3]] * 2, classes=("cut", "pour", "mix")), "only in one: 'stir'; only in two: 'mix'"),
        (scores([[1, 2, 3]] * 2, classes=("pour", "cut", "stir")), "in another order: label 0 is 'cut' and 'pour'"),
        (scores([[1, 2, 3], [np.nan, 2, 3]]), r"two: the scores of b\.mp4 are not finite"),
    ],
)
def test_files_that_do_not_fit_together_say_how(other, message):
    with pytest.raises(ValueError, match=message):
        align([FIRST, other], ("one", "two"))
    with pytest.raises(ValueError, match=message):
        ensemble([FIRST, other], ("one", "two"))


def test_results_on_two_versions_of_the_annotations_do_not_meet(tmp_path):
    first, second = replace(FIRST, dataset_version="V1"), replace(FIRST, dataset_version="V2")
    save_scores(tmp_path / "scores.npz", second)
    with pytest.raises(
        ValueError, match="one is of the annotations V1, two of V2, so their results are not comparable"
    ):
        align([first, load_scores(tmp_path / "scores.npz")], ("one", "two"))
    with pytest.raises(ValueError, match="two is of the annotations V1, three of V2"):
        ensemble([FIRST, first, second], ("one", "two", "three"))
    assert ensemble([FIRST, second], ("one", "two")).dataset_version == "V2"
    assert second.take(np.array([1])).dataset_version == "V2"


def test_a_file_of_before_the_version_was_kept_is_read(tmp_path):
    with (tmp_path / "scores.npz").open("wb") as file:
        np.savez(
            file,
            **{name: value for name, value in vars(FIRST).items() if name != "dataset_version" and value is not None},
        )
    assert load_scores(tmp_path / "scores.npz").dataset_version == ""


def test_an_ensemble_is_the_weighted_mean_of_logits():
    other = scores([[0, 3, 0], [6, 0, 0]], protocol="8x2x1")
    assert np.allclose(ensemble([FIRST, other], ("1", "2")).scores, [[1, 2, 0], [3, 0.5, 1]])
    joined = ensemble([FIRST, other], ("1", "2"), weights=[2, 1])
    assert np.allclose(joined.scores, [[4 / 3, 5 / 3, 0], [2, 2 / 3, 4 / 3]])
    assert joined.fusion == "logits"
    assert joined.protocol == "ensemble by logits: 0.667 * (8x1x1) + 0.333 * (8x2x1)"


def test_an_ensemble_with_probabilities_is_one_of_probabilities():
    other = scores([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], fusion="probabilities")
    joined = ensemble([FIRST, other], ("1", "2"))
    powers = np.exp([[2.0, 1, 0], [0, 1, 2]])
    expected = (powers / powers.sum(1, keepdims=True) + other.scores) / 2
    assert joined.fusion == "probabilities"
    assert np.allclose(joined.scores, expected)
    assert np.allclose(joined.scores.sum(1), 1)
    with pytest.raises(ValueError, match="2 hold probabilities, no logits"):
        ensemble([FIRST, other], ("1", "2"), fusion="logits")


@pytest.mark.parametrize("weights", [[1.0], [1, 2, 3], [-1, 2], [0, 0]])
def test_weights_must_fit(weights):
    with pytest.raises(ValueError, match="give one for each, from 0 on, not all 0"):
        ensemble([FIRST, FIRST], ("1", "2"), weights)


def test_one_file_is_no_ensemble():
    with pytest.raises(ValueError, match="an ensemble of 1 score files"):
        ensemble([FIRST], ("1",))


def test_probabilities_of_large_logits_are_finite():
    assert np.allclose(scores([[1000.0, 1000.0], [-1000.0, 0.0]]).probabilities(), [[0.5, 0.5], [0, 1]])
