"""How far back an impulse is remembered: leaky units, skips over time, dilation, a clockwork, beside plain tanh units.

Two runs over zeros, one with an impulse at the first step: how far apart the states are, later on, is the response. The
gradient of the last output with regard to the input of each step says the same, read backward: what reaches over a lag
on the way there is what can be learned over that lag. All have 32 units, and recurrent weights of a spectral radius of
0.8: what differs is only how a state is connected with those before it.

For leaky units, h' = (1 - a) h + a φ(W x) without recurrent weights, both are known: what remains is (1 - a)^lag.

    python examples/timescales.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn

HIDDEN, RADIUS, SMALL = 32, 0.8, 1e-2


def plain(rng: np.random.Generator, inputs: int = 1) -> nn.Cell:
    return scaled(nn.RNNCell(inputs, HIDDEN, bias=False, rng=rng))


def scaled(cell: nn.Cell) -> nn.Cell:
    cell.weight_hh.data = nn.init.with_spectral_radius(cell.weight_hh.data, RADIUS)
    return cell


def leaky(leak: float):
    return lambda rng: nn.LeakyCell(1, HIDDEN, leak, bias=False, recurrent=False, rng=rng)


def skip(steps: int):
    def make(rng: np.random.Generator) -> nn.Cell:
        cell = nn.TimeSkip(plain(rng), steps, rng=rng)
        cell.weights.data = nn.init.with_spectral_radius(cell.weights.data, RADIUS)
        cell.cell.weight_hh.data = cell.cell.weight_hh.data
        return cell

    return make
