import torch
from timm.optim import create_optimizer_v2, muon

from timm_video_psn.engine.train.muon import orthogonalize_in_float32


def test_updates_are_orthogonalised_in_float32_and_are_the_same_ones(monkeypatch):
    current = muon.zeropower_via_newtonschulz  # a training in this process may have replaced timm's own
    monkeypatch.setattr(muon, "zeropower_via_newtonschulz", getattr(current, "__wrapped__", current))

    def updated() -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(16, 8, bias=False)
        optimizer = create_optimizer_v2(layer, opt="muon", lr=0.1)
        layer(torch.randn(64, 16)).square().sum().backward()
        before = layer.weight.detach().clone()
        optimizer.step()
        return before - layer.weight.detach()

    rough = updated()
    orthogonalize_in_float32()
    orthogonalize_in_float32()
    exact = updated()
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02 * exact.abs().max().item())
