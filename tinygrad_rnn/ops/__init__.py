"""The operations: arrays or tensors in, the same out; what is recorded can be differentiated.

An operation that has the name of a NumPy function takes that function's arguments, and they mean the same; those that
it does not have (``out``, ``where``, ``order``) are refused. So the documentation of such an operation says what it
computes, and what is special here: where its gradient is a convention, and what it does with infinities and NaN.

Each is a primitive, or a few lines made of primitives, in the file named after its kind. A derivative is written there,
beside the forward, and nowhere else in the package. ``@tg.primitive`` adds an operation just as they do.
"""

from . import activation, elementwise, indexing, linear, reduction, shape, sparse
from .activation import *
from .elementwise import *
from .indexing import *
from .linear import *
from .reduction import *
from .shape import *
from .sparse import *

# The other spellings that NumPy has for some of them, the array API's
abs, pow, acos, acosh, asin, asinh = absolute, power, arccos, arccosh, arcsin, arcsinh
atan, atan2, atanh, concat, permute_dims = arctan, arctan2, arctanh, concatenate, transpose

__all__ = ["abs", "pow", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "concat", "permute_dims"]
__all__ += activation.__all__ + elementwise.__all__ + indexing.__all__
__all__ += linear.__all__ + reduction.__all__ + shape.__all__ + sparse.__all__

from . import methods  # noqa: E402, F401  the operations, put on the tensor
