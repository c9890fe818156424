"""Recurrent cells, the modules around them, and what trains them: all of it computed with the package's operations.

No derivative is written here. A cell says what one step is (:class:`~tinygrad_rnn.nn.Cell`),
:func:`~tinygrad_rnn.scan` runs it over a sequence, and the tape that this leaves is the unrolled network: its
gradient is back-propagation through time. :class:`~tinygrad_rnn.nn.Recurrent` puts cells into layers and directions;
wrappers such as :class:`~tinygrad_rnn.nn.Zoneout` change what any cell does.
"""

from . import init
from .cells import Cell, GRUCell, IRNNCell, LSTMCell, RNNCell
from .dropout import Dropout
from .echo_state import DivergenceWarning, EchoStateNetwork, memory_capacity
from .embedding import Embedding
from .exchange import from_keras, from_onnx, from_torch, to_keras, to_onnx
from .layers import LearnedState, Recurrent
from .linear import Linear
from .loss import binary_cross_entropy_with_logits, cross_entropy, huber, masked_mean, mse
from .lstm import LSTM1997Cell, LSTMVariantCell, MinimalGatedCell
from .module import Module, Parameter
from .networks import GRU, LSTM, RNN
from .norm import LayerNorm
from .readout import FORCE, RLS, ConditionWarning, Readout, Ridge
from .recurrent import scan
from .reservoir import DeepReservoir, GroupedReservoir, Reservoir
from .residual import DenseBlock, HighwayBlock, ResidualBlock
from .sequential import Sequential
from .spectrum import EchoState, echo_state_property, effective_spectral_radius, spectral_radius
from .summary import summary
from .timescales import ClockworkCell, LeakyCell
from .watch import watching
from .wrappers import (
    Dense,
    Dilated,
    Highway,
    LayerNormalized,
    RecurrentDropout,
    Residual,
    TimeSkip,
    VariationalDropout,
    Wrapper,
    Zoneout,
)

__all__ = [
    "FORCE", "GRU", "LSTM", "RLS", "RNN", "Cell", "ClockworkCell", "ConditionWarning", "DeepReservoir", "Dense",
    "DenseBlock", "Dilated", "DivergenceWarning", "Dropout", "EchoState", "EchoStateNetwork", "Embedding", "GRUCell",
    "GroupedReservoir", "Highway", "HighwayBlock", "IRNNCell", "LSTM1997Cell", "LSTMCell", "LSTMVariantCell",
    "LayerNorm", "LayerNormalized", "LeakyCell", "LearnedState", "Linear", "MinimalGatedCell", "Module", "Parameter",
    "RNNCell", "Readout", "Recurrent", "RecurrentDropout", "Reservoir", "Residual", "ResidualBlock", "Ridge",
    "Sequential", "TimeSkip", "VariationalDropout", "Wrapper", "Zoneout", "binary_cross_entropy_with_logits",
    "cross_entropy", "echo_state_property", "effective_spectral_radius", "from_keras", "from_onnx", "from_torch",
    "huber", "init", "masked_mean", "memory_capacity", "mse", "scan", "spectral_radius", "summary", "to_keras",
    "to_onnx", "watching",
]  # fmt: skip
