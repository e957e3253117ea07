import pytest
import timm
import torch

from timm_video_psn import auxiliary_losses
from timm_video_psn.engine.train.task import VideoClassificationTask


def test_the_total_is_the_weighted_sum_of_its_named_terms():
    model = timm.create_model("psn_test_resnet", num_classes=3, proportion=0.5).train()
    clip, label = torch.randn(2, 3, 4, 32, 32), torch.tensor([0, 2])
    terms, logits = VideoClassificationTask(model, alpha=0.5, beta=0.25)(clip, label)
    expected = torch.nn.functional.cross_entropy(logits, label)
    auxiliary = auxiliary_losses(model)
    assert terms["ce"] == expected
    torch.testing.assert_close(terms["loss"], expected + 0.5 * auxiliary["interaction"] + 0.25 * auxiliary["capacity"])


def test_a_model_without_synthesizers_or_weights_of_zero_leave_the_classification_loss_alone():
    clip, label = torch.randn(2, 3, 4, 32, 32), torch.tensor([0, 2])
    for name, alpha in (("tsn_test_resnet", 0.01), ("psn_test_resnet", 0.0)):
        model = timm.create_model(name, num_classes=3).train()
        terms, _ = VideoClassificationTask(model, alpha=alpha, beta=0.0)(clip, label)
        assert set(terms) == {"loss", "ce"}
        assert terms["loss"] == terms["ce"]


def test_the_default_weights_are_the_papers():
    task = VideoClassificationTask(torch.nn.Identity())
    assert task.weights == pytest.approx({"interaction": 0.01, "capacity": 0.001})


def test_mixed_clips_have_the_shares_of_their_losses_and_the_auxiliary_ones_as_ever():
    model = timm.create_model("psn_test_resnet", num_classes=3, proportion=0.5).train()
    clip, shares = torch.randn(2, 3, 4, 32, 32), torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.25, 0.75]])
    terms, logits = VideoClassificationTask(model, alpha=0.5, beta=0.25)(clip, shares)
    losses = -logits.log_softmax(1)
    expected = sum(shares[row, k] * losses[row, k] for row in range(2) for k in range(3)) / 2
    torch.testing.assert_close(terms["ce"], expected)
    auxiliary = auxiliary_losses(model)
    torch.testing.assert_close(terms["loss"], expected + 0.5 * auxiliary["interaction"] + 0.25 * auxiliary["capacity"])
