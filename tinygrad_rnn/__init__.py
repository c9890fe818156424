from .tensor import *
from .tensor import tensor, Tensor, from_dlpack
from .tape import *
from . import ops
from .ops import *
