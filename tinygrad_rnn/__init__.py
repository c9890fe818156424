"""Automatic differentiation on a tape, from scratch, over NumPy and CuPy arrays; and recurrent networks on it.

>>> import tinygrad_rnn as tg
>>> x = tg.tensor([0.0, 1.0], requires_grad=True)
>>> loss = (tg.tanh(x) ** 2).sum()
>>> loss.backward()
>>> x.grad
tensor([0.        , 0.63970001])
"""

import importlib
from typing import TYPE_CHECKING, Any

from .tensor import Tensor, from_dlpack, tensor  # isort: skip  (first: the tape is made of tensors)
from . import nn, ops, optim
from .check import check_gradients, numerical_gradient
from .debug import anomaly, label
from .errors import AnomalyError, DeviceError, MutationError, ShapeError, StateError
from .modes import enable_grad, is_recording, no_grad
from .nn.recurrent import scan
from .ops import *
from .recording import Primitive, primitive
from .show import Tape, tape
from .tape import backward, gradients
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

if TYPE_CHECKING:
    from . import analysis, bptt, compile, tasks, train
    from .compile import compiled
    from .config import show_config
    from .nn.weights import CheckpointError, load, save
    from .ops.checkpoint import checkpoint
    from .train import fit

__version__ = "0.1.0"

__all__ = [
    "AnomalyError", "CheckpointError", "DeviceError", "MutationError", "Primitive", "ShapeError", "StateError", "Tape",
    "Tensor", "analysis", "anomaly", "backward", "bptt", "check_gradients", "checkpoint", "compile", "compiled",
    "enable_grad", "fit", "from_dlpack", "grad", "gradients", "hessian", "hvp", "is_recording", "jacobian", "jvp",
    "label", "load", "nn", "no_grad", "numerical_gradient", "ops", "optim", "primitive", "save", "scan", "show_config",
    "tape", "tasks", "tensor", "train", "value_and_grad", "vjp",
]  # fmt: skip
__all__ += ops.__all__


def __getattr__(name: str) -> Any:
    """What not everybody needs, and what takes time to import, is imported by who asks for it."""
    rooms = ("analysis", "bptt", "compile", "tasks", "train")
    places = {room: f".{room}" for room in rooms}
    places |= {"checkpoint": ".ops.checkpoint", "compiled": ".compile", "fit": ".train", "show_config": ".config"}
    places |= dict.fromkeys(("CheckpointError", "load", "save"), ".nn.weights")
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(places[name], __name__)
    return module if name in rooms else getattr(module, name)
