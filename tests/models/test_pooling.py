import numpy as np
import torch

from clarity_cxr.models.pooling import AttentionPooling, MeanPooling


def test_attention_pooling_is_equation_9() -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(classes=3, width=5, dropout=0.0)
    tokens = torch.randn(2, 3, 5)
    weights = np.exp(pooling.weights.detach().numpy())
    weights /= weights.sum(axis=1, keepdims=True)
    expected = np.array([[(tokens[b, c].numpy() * weights[c]).sum() for c in range(3)] for b in range(2)])
    np.testing.assert_allclose(pooling(tokens).detach().numpy(), expected, rtol=1e-5)


def test_mean_pooling_is_the_mean() -> None:
    tokens = torch.arange(12.0).reshape(1, 3, 4)
    assert MeanPooling(0.0)(tokens).tolist() == [[1.5, 5.5, 9.5]]


def test_dropout_acts_on_the_tokens_in_training_only() -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(3, 400, dropout=0.5)
    tokens = torch.ones(1, 3, 400)
    torch.testing.assert_close(pooling.eval()(tokens), torch.ones(1, 3))
    assert not torch.allclose(pooling.train()(tokens), torch.ones(1, 3), atol=1e-3)
