"""Recurrent cells, the modules around them, and what trains them: all of it computed with the package's operations.

No derivative is written here. A cell says what one step is (:class:`Cell`), :func:`scan` runs it over a sequence, and
the tape that this leaves is the unrolled network: its gradient is back-propagation through time.
"""

from . import init
from .cells import Cell, GRUCell, IRNNCell, LSTMCell, RNNCell
from .linear import Linear
from .loss import cross_entropy, mse
from .module import Module, Parameter
from .recurrent import scan

__all__ = [
    "Cell", "GRUCell", "IRNNCell", "LSTMCell", "Linear", "Module", "Parameter", "RNNCell", "cross_entropy", "init",
    "mse", "scan",
]  # fmt: skip
