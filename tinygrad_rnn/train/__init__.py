"""A training loop, for those who want one: with checkpoints from which it goes on, bit for bit, as if never stopped.

:func:`~tinygrad_rnn.train.fit` is a function: what it uses is passed to it, and what it does, a loop of one's own can
do as well: backward, clip, step. What a batch is, the data says; what is computed from it, the loss. Data are not
loaded here, nor changed.
"""

from ..nn.weights import CheckpointError
from .evaluation import evaluate
from .history import History
from .loop import Moment, fit

__all__ = ["CheckpointError", "History", "Moment", "evaluate", "fit"]
