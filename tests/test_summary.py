"""The table of a model's weights: its numbers are those that textbooks and other frameworks give."""

from __future__ import annotations

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn
from tinygrad_rnn.nn.summary import summary

H, X = 16, 15  # units and features: 15 features of each of the time steps


class Network(nn.Module):
    def __init__(self, cell, classes=8):
        self.cell, self.readout = cell, nn.Linear(cell.hidden_size, classes)


def with_one_bias(cell):
    """The cell, with the one bias that the equations of textbooks and of Keras have: the other would be added to it."""
    cell.bias_hh = None
    return cell


def test_a_simple_network_is_that_of_keras():
    """512 for SimpleRNN(16) on 15 features, 136 for Dense(8), 648 in all; PyTorch has a second bias, of 16 more."""
    table = summary(Network(with_one_bias(nn.RNNCell(X, H))))
    assert [row.count for row in table.rows] == [512, 136] and table.total == 648
    assert summary(Network(nn.RNNCell(X, H))).total == 648 + H


@pytest.mark.parametrize(
    ("make", "one_bias", "two_biases"),
    [(nn.RNNCell, 512, 528), (nn.LSTMCell, 2048, 2112), (nn.GRUCell, 1536, 1584)],
)
def test_cells_have_as_many_weights_as_is_published(make, one_bias, two_biases):
    """g (h (x + 1) + h²) for g gates of one bias; with two, as PyTorch and the GRU of Keras have, g · h more."""
    assert summary(with_one_bias(make(X, H))).total == len(make.rows) * (H * (X + 1) + H**2) == one_bias
    assert summary(make(X, H)).total == two_biases
    assert summary(make(X, H, bias=False)).total == one_bias - len(make.rows) * H


@pytest.mark.parametrize("make", [nn.RNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_cell_with_one_bias_works(make):
    one, two = with_one_bias(make(3, 4, rng=0)), make(3, 4, rng=0)
    two.bias_hh.data = np.zeros_like(two.bias_hh.data)
    xs = np.ones((2, 5, 3), np.float32)
    assert (nn.scan(one, xs)[0].data == nn.scan(two, xs)[0].data).all()


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
def test_totals_are_torchs(name):
    torch = pytest.importorskip("torch")
    theirs = sum(p.numel() for p in getattr(torch.nn, name)(X, H).parameters())
    assert summary(getattr(nn, name)(X, H)).total == theirs


class Mixed(nn.Module):
    def __init__(self):
        self.layers = [nn.Linear(2, 3), nn.Linear(3, 3)]
        self.again = self.layers[0]
        self.tied = self.layers[0].weight
        self.own = nn.Parameter(np.zeros((), np.float32))
        self.constant = tg.tensor(np.zeros((1000, 2)))
        self.computed = self.own * 2
        self.layers[1].weight.requires_grad = False


def test_what_is_shared_counts_once_and_what_is_frozen_is_told():
    table = summary(Mixed())
    assert [(row.name, row.kind, row.count, row.trained) for row in table.rows] == [
        ("", "Mixed", 6 + 1 + 2000, 7), ("layers.0", "Linear", 3, 3), ("layers.1", "Linear", 12, 3),
    ]  # fmt: skip
    assert table.total == 2022 and table.trained == 13
    assert table.rows[2].shapes == {"weight": (3, 3), "bias": (3,)}


def test_the_table():
    assert repr(summary(Mixed())).splitlines() == [
        "module    kind    weights                                  numbers",
        "·         Mixed   tied (3, 2), own (), constant (1000, 2)    2,007",
        "layers.0  Linear  bias (3,)                                      3",
        "layers.1  Linear  weight (3, 3), bias (3,)                      12",
        "total                                                        2,022",
        "trained                                                         13",
    ]
    assert "trained" not in str(summary(nn.Linear(2, 3)))
    assert str(summary(nn.Module())) == "module  kind  weights  numbers\ntotal                        0"
