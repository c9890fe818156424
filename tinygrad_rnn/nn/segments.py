"""A scan in segments: of its tape only the states between them are kept, and the rest is computed again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from .. import trees
from ..arrays import has_gradient, is_array, owner
from ..debug import label
from ..errors import whole
from ..ops import concatenate, flip, split
from ..ops.checkpoint import checkpoint
from ..show import tape
from ..tensor import Tensor, bare, tensor
from .cells import Cell
from .module import Module
from .recurrent import Function, drawn_from, idle, number, prepared, scan, unrolled, unseen
from .watch import in_time, unwatched


def checkpointed(
    cell: Cell | Callable,
    xs: Any,
    state: Any = None,
    *,
    every: int | None = None,
    memory: int | None = None,
    parameters: Iterable[Tensor] | None = None,
    generators: Iterable[np.random.Generator] | None = None,
    lengths: Any = None,
    mask: Any = None,
    reset: Any = None,
    reverse: bool = False,
    states: bool = False,
    pad_value: float = 0,
    compiled: Any = "auto",
) -> tuple:
    """A scan with a tape that keeps the state before every so many steps, and nothing else.

    On the way back each segment is computed once more. Values and gradients, of every order, are the same. The memory
    is that of time / every states and of the tape of ``every`` steps, least for √time; the time is that of one more
    forward pass. Random numbers that the cell draws are drawn again, if all its generators are attributes of modules.

    Parameters
    ----------
    cell : Cell or callable
        As of :func:`~tinygrad_rnn.scan`, as are all that are not described here.
    xs : array or Tensor, (time, ...)
        The inputs, time first.
    state : Tensor or tuple of Tensor, optional
        What to start from.
    every : int, optional
        The length of a segment; by default about √time.
    memory : int, optional
        Instead, how many bytes may be taken by what is kept until a backward pass has ended: states, and tape. Segments
        are made as long as it allows, and the last one keeps its tape: so as few steps as possible are computed again;
        none, if all of the tape is within it. (Not counted are inputs and outputs, their gradients, those of the
        parameters, and what one operation needs. Python's own objects are, roughly.) Then the steps are on the tape,
        the bytes of which are known, and not compiled.
    parameters : iterable of Tensor, optional
        The leaves that the cell uses; by default those of the module. See :func:`~tinygrad_rnn.checkpoint`.
    generators : iterable of Generator, optional
        Those that the cell draws from; by default, see above.
    lengths : array of int, (batch,), optional
        How many steps each sequence has.
    mask : array of bool, (time, batch), optional
        Where a sequence has an input.
    reset : array of bool, (time, batch), optional
        Where a new sequence begins.
    reverse : bool, optional
        Whether it runs from the last to the first.
    states : bool, optional
        Whether to return the states of all steps, too.
    pad_value : float, optional
        What outputs hold where a sequence has no input.
    compiled : bool or "auto", optional
        Whether it is compiled.

    Returns
    -------
    ys : Tensor, (time, ...)
        The outputs.
    state : Tensor or tuple of Tensor
        The last state.
    states : Tensor or tuple of Tensor
        The states after each step, if they were asked for.

    Raises
    ------
    ValueError
        ``memory`` is less than any segments need (it says how much that is); or is given together with ``every``, or
        with ``compiled=True``.

    Examples
    --------
    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import nn
    >>> cell, xs = nn.LSTMCell(2, 8, rng=0), np.ones((400, 1, 2), np.float32)
    >>> for run in (tg.scan, checkpointed):
    ...     ys, _ = run(cell, xs, compiled=False)
    ...     print(len(tg.tape(ys)) > 400, tg.gradients(ys.sum(), cell.weight_hh).shape)
    True (32, 8)
    False (32, 8)
    """
    if every is not None and memory is not None:
        raise ValueError("every, memory: expected one of them, got both: memory says how long a segment is")
    if memory is not None and compiled not in ("auto", False):
        raise ValueError(f"memory, compiled: expected one of them, got both, compiled={compiled!r}: what is known is "
                         "how many bytes the tape takes")  # fmt: skip
    options = {"lengths": lengths, "mask": mask, "reset": reset, "reverse": reverse}
    time, module = getattr(xs, "shape", ())[:1], cell if isinstance(cell, Module) else Module()
    if time in ((), (0,)):  # nothing to be cut
        return scan(cell, xs, state, **options, states=states, pad_value=pad_value, compiled=compiled)
    (time,), every, pad_value = time, every if every is None else whole("every", every, 1), number(pad_value)
    memory, on_tape = memory if memory is None else whole("memory", memory, 1), nullcontext
    if memory is not None:
        from ..compile import compiled as by_programs  # which knows cells: it is asked for when it is needed

        on_tape = partial(by_programs, False)
    parameters = [*(module.parameters() if parameters is None else parameters)]
    generators = [*(drawn_from(module) if generators is None else generators)]
    run, xs, state, mask, reset = prepared(cell, xs, state, **options)
    home = run.home if isinstance(run, Function) else None  # where a reset leads: it may have a gradient
    within = [*module.modules()]
    modes = [part.training for part in within]
    run_once: set[int] = set()

    def loop(xs: Any, state: Any, mask: Any, reset: Any, home: Any, shown: dict | None = None) -> tuple:
        cell = run if home is None else Function(run.function, home)
        skipped = unseen(generators) if idle(xs, state, mask, reset) else nullcontext()  # as the whole scan skips them
        with skipped, on_tape():
            made = {"states": states, "pad_value": pad_value, "compiled": compiled}
            return unrolled(cell, xs, state, mask, reset, **made, shown=shown)

    def segment(first: int, *sequence: Any) -> tuple:
        if modes != [part.training for part in within]:
            raise RuntimeError(
                "checkpointed: train() or eval() was called between the forward and the backward pass, so "
                "that what was computed cannot be computed again: call backward() first"
            )
        repeated, steps = first in run_once, {}
        run_once.add(first)
        with label("segment", -(-first // every)), unwatched() if repeated else nullcontext():
            try:
                result = loop(*sequence, shown=None if shown is None or repeated else steps)
            except Exception as error:
                error.add_note(f"in the segment that begins with step {time - 1 - first if reverse else first}")
                raise
        for t, found in steps.items():
            shown[time - 1 - first - t if reverse else first + t] = found
        return result

    again = partial(checkpoint, segment, parameters=parameters, generators=generators)
    if memory is None:
        every, plain = every or round(math.sqrt(time)), None
    else:
        with unseen(generators):
            every = longest(memory, time, *sizes(loop, xs, state, mask, reset, home))
        plain = time - min(every, time)  # where the last segment begins: it keeps its tape, as there is room for one
    along = backwards if reverse else lambda x: x
    cuts = [*range(time % every or every, time, every)]  # the first may be shorter

    def parts(x: Any) -> Sequence:
        return [None] * (len(cuts) + 1) if x is None else split(along(x), cuts) if cuts else [along(x)]

    results = []
    with in_time(xs, run) as shown:
        for first, x, m, r in zip([0, *cuts], parts(xs), parts(mask), parts(reset)):
            call = segment if first == plain else again
            results.append(call(first, x, state, m, r, home))
            state = results[-1][1]
    ys, _, *made = zip(*results)
    return (along(joined(ys)), state, *[trees.map(lambda *parts: along(joined(parts)), *m) for m in made])


def backwards(x: Any) -> Any:
    return flip(x, axis=0)


def joined(parts: Sequence) -> Any:
    return concatenate(parts) if len(parts) > 1 else parts[0]


# How long segments may be ---------------------------------------------------------------------------------------------

ENTRY, SEGMENT = 450, 5000  # the bytes of Python's own objects: of an entry of the tape, and of a segment


def longest(memory: int, time: int, step: int, state: int) -> int:
    """The length of segments, if the states between them and the tape of one, in bytes, are to be within the memory."""

    def needed(every: int) -> int:
        return (math.ceil(time / every) - 1) * state + every * step

    if (every := next((every for every in range(time, 0, -1) if needed(every) <= memory), None)) is None:
        least = min(map(needed, range(1, time + 1)))
        raise ValueError(f"memory: expected at least {least:,} bytes, for {time:,} steps with {step:,} on the tape of "
                         f"each, and a state of {state:,}; got {memory:,}")  # fmt: skip
    return every


def sizes(loop: Callable, xs: Any, state: Any, mask: Any, reset: Any, home: Any) -> tuple[int, int]:
    """How many bytes a step leaves on the tape, at most, and those of a state, with its segment: two steps are made."""
    arrays = [x for part in trees.flatten(state)[0] if is_array(x := bare(part))]
    state, xs = trees.map(lambda x: variable(x, True), state), variable(xs[:2], getattr(xs, "requires_grad", False))

    def left(steps: int) -> int:
        flags = [f if f is None else np.full_like(f[:steps], value) for f, value in ((mask, False), (reset, True))]
        return taped(trees.flatten(loop(xs[:steps], state, *flags, home))[0])

    return left(2) - left(1), sum(x.nbytes for x in arrays) + SEGMENT


def variable(x: Any, requires_grad: bool) -> Any:
    """A leaf in the place of what was computed, so that what it was computed from does not count."""
    return tensor(x.detach(), requires_grad and has_gradient(x.dtype)) if isinstance(x, Tensor) else x


def taped(outputs: list) -> int:
    """The bytes of all that the tape of the outputs keeps alive: of a view it is the whole array."""
    tapes = [tape(y) for y in outputs if isinstance(y, Tensor) and y.node is not None]
    kept = {node: trees.flatten([*entries.kept(node).values()])[0] for entries in tapes for node in entries}
    owners = map(owner, filter(is_array, itertools.chain(*kept.values())))
    return sum({id(array): array.nbytes for array in owners}.values()) + ENTRY * len(kept)
