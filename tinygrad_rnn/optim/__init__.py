"""Training: what is done with gradients. Optimisers, schedules for the learning rate, clipping.

Tensors are values: a step gives every parameter a new array, and writes into none. Names and equations are PyTorch's.
"""

from .clipping import clip_grad_norm_, clip_grad_value_
from .optimizers import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from .schedules import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    ReduceLROnPlateau,
    Schedule,
    SequentialLR,
    StepLR,
)

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "CosineAnnealingLR", "ExponentialLR", "LinearLR", "Optimizer", "RMSprop",
    "ReduceLROnPlateau", "Schedule", "SequentialLR", "StepLR", "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip
