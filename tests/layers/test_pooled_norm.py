import pytest
import torch
from torch import nn

from timm_video_psn.layers.pooled_norm import PooledNorm


@pytest.mark.parametrize("shape", [(2, 4), (1, 4, 3), (3, 4, 2)])
@pytest.mark.parametrize("training", [True, False])
def test_is_a_batch_norm(training, shape):
    norm, plain = PooledNorm(4).train(training), nn.BatchNorm1d(4).train(training)
    for momentum in (0.1, None):
        norm.momentum = plain.momentum = momentum
        x = torch.randn(shape)
        assert torch.equal(norm(x), plain(x))
    assert all(map(torch.equal, norm.state_dict().values(), plain.state_dict().values()))


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1)])
def test_trains_on_one_value_by_its_running_statistics(shape):
    norm, x = PooledNorm(4), torch.randn(shape)
    norm(torch.randn(8, 4) * 3 + 1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.BatchNorm1d(4)(x)
    before = norm.running_mean.clone()
    trained = norm(x)
    assert torch.equal(trained, norm.eval()(x))
    assert torch.equal(norm.running_mean, before)
