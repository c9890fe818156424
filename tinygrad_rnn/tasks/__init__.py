"""The tasks of the literature, by their exact definitions: what to try a recurrent network on, and what others got.

All have one protocol (:class:`~tinygrad_rnn.tasks.Task`): ``task.batch(size, rng)`` draws sequences, a
:class:`~tinygrad_rnn.tasks.Batch` ``(x, y, lengths, mask)``, time first; ``batch.answers(ys)`` picks of a network's
outputs what y is compared with; ``task.wrong(answers, batch)`` says which sequences were processed wrongly, by the
measure of the source; ``task.count_wrong`` and ``task.is_solved`` do so for new ones. Which loss to train with is not
part of a task. A docstring has the definition, the source, and the ``baseline``: the error of an answer that needs no
memory.

What is not drawn without end, but is a series or a data set, has functions that return arrays: series
(:func:`~tinygrad_rnn.tasks.narma10`, :func:`~tinygrad_rnn.tasks.mackey_glass`, :func:`~tinygrad_rnn.tasks.lorenz`,
:func:`~tinygrad_rnn.tasks.multiple_sines`, :func:`~tinygrad_rnn.tasks.sunspots`), images
(:func:`~tinygrad_rnn.tasks.digits`, :func:`~tinygrad_rnn.tasks.mnist`), text (:func:`~tinygrad_rnn.tasks.characters`).
They are time first, too.
"""

from .images import Images, digits, enlarged, mnist, read_idx
from .longlag import (
    Adding,
    CopyMemory,
    EmbeddedReber,
    Multiplication,
    NoiseFreeLag,
    PascanuTemporalOrder,
    RandomLag,
    TemporalOrder,
    TwoSequence,
    VeryLongLag,
)
from .series import Sunspots, lorenz, mackey_glass, multiple_sines, narma10, nmse, sunspots
from .task import Batch, Task
from .text import Characters, characters, constitution, streams, witten_bell

__all__ = [
    "Adding", "Batch", "Characters", "CopyMemory", "EmbeddedReber", "Images", "Multiplication", "NoiseFreeLag",
    "PascanuTemporalOrder", "RandomLag", "Sunspots", "Task", "TemporalOrder", "TwoSequence", "VeryLongLag",
    "characters", "constitution", "digits", "enlarged", "lorenz", "mackey_glass", "mnist", "multiple_sines", "narma10",
    "nmse", "read_idx", "streams", "sunspots", "witten_bell",
]  # fmt: skip
