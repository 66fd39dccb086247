"""All use of undocumented parts of torch, each with a fallback.

They save seconds at every start. Torch imports its compiler, which takes 1.5 seconds, to exclude functions from
compilation, although only the model's pass is ever compiled here (`train.compile`); and on the meta device, where
networks are counted without memory, most functions run through Python and an algebra package. With a torch whose
internals differ from those known here, these shortcuts are left out, and everything works, only slower.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode
from torch.utils import flop_counter

try:
    from torch.utils._python_dispatch import TorchDispatchMode
except ImportError:  # without it torch tells the shapes itself
    TorchDispatchMode = None  # type: ignore[assignment, misc]

M = TypeVar("M", bound=nn.Module)


def spare_the_compiler(*functions: Any) -> None:
    """Mark functions as already excluded from torch's compiler, which torch would import at their first call."""
    for function in functions:
        inner = getattr(function, "__wrapped__", None)
        if inner is not None and "torch._dynamo" not in sys.modules:
            inner.__dynamo_disable = inner


def spare_optimizers() -> None:
    """Mark the functions of all optimizers likewise."""
    spare_the_compiler(Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict)


def spare_the_flop_counter() -> None:
    """Mark the functions of torch's counter of multiply-adds likewise."""
    mode = getattr(flop_counter, "_FlopCounterMode", None)
    spare_the_compiler(getattr(mode, "__torch_dispatch__", None))


def with_its_own_step(optimizer: Optimizer) -> Optimizer:
    """Return the optimizer with its step freed of torch's wrappers; no gradient passes through it either way."""
    step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]
    return optimizer


class JoinableSGD(torch.optim.SGD):
    """torch's SGD, in which parameters may join later, as those of a body that was frozen at first.

    Torch's fused step takes momenta of all parameters or of none. Parameters that join start with a momentum of 0.
    """

    def _init_group(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], momenta: list[Tensor | None]
    ) -> bool:
        sparse: bool = super()._init_group(group, params, grads, momenta)  # type: ignore[no-untyped-call]
        if group["momentum"] and any(momentum is not None for momentum in momenta):
            momenta[:] = [torch.zeros_like(p) if m is None else m for p, m in zip(params, momenta, strict=True)]
        return sparse


# Functions that fill a tensor or map its elements keep its shape, and have no multiply-adds. On the meta device most
# of these run through Python, a batch norm in 3 ms, and the first of them imports torch's compiler, which takes two
# seconds; without them a network of 50 layers is counted in a third of the time.
SHAPELESS = frozenset(
    {
        torch.Tensor.clamp_,
        torch.Tensor.fill_,
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
        torch.Tensor.zero_,
        torch.batch_norm,
        F.batch_norm,
        F.dropout,
        F.gelu,
        F.hardsigmoid,
        F.hardswish,
        F.hardtanh,
        F.layer_norm,
        F.leaky_relu,
        F.relu,
        F.silu,
        F.softmax,
        torch.Tensor.softmax,
        torch.relu,
        torch.relu_,
        torch.sigmoid,
        torch.Tensor.sigmoid,
    }
)
# The same for two tensors, or a tensor and a number, if one has the shape of the result.
SHAPELESS_OF_TWO = frozenset(
    {torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div, torch.Tensor.__truediv__}
)

# Initialisers that torch passes to a mode as a whole, with their least number of dimensions.
INITIALIZERS = {nn.init.constant_: 0, nn.init.kaiming_uniform_: 2, nn.init.normal_: 0, nn.init.uniform_: 0}

# Reductions, whose result has the size of a view of the input.
MEANS = frozenset({torch.Tensor.amax, torch.Tensor.mean, torch.Tensor.sum, torch.amax, torch.mean, torch.sum})


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Context in which all tensors have a shape and no memory, and operations that keep shapes are skipped."""
    with torch.device("meta"), _products(), _ShapesAlone():
        yield


def build_on_meta(make: Callable[[], M]) -> M:
    """Return what `make` makes, on the meta device, in evaluation mode.

    A network that needs values while it is built is built with memory, which is then released.
    """
    with torch.random.fork_rng(devices=()):
        try:
            with on_meta_device():
                return make().eval()
        except (RuntimeError, ValueError, TypeError, ArithmeticError, IndexError, NotImplementedError):
            with torch.device("cpu"):  # within another outline too
                return make().to("meta").eval()


class _ShapesAlone(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in INITIALIZERS and not args:
            tensor = kwargs.get("tensor")
            if isinstance(tensor, Tensor) and tensor.is_meta and tensor.dim() >= INITIALIZERS[func]:
                return tensor
        if not (args and isinstance(args[0], Tensor) and args[0].is_meta):
            return func(*args, **kwargs)  # a network's own arithmetic with numbers, by which it is built
        if func in SHAPELESS:
            return args[0]
        if func in SHAPELESS_OF_TWO and not kwargs:
            larger = _larger(*args)
            if larger is not None:
                return larger
        if func in MEANS and len(args) == 2 and kwargs.keys() <= {"keepdim"}:
            return _one_of(args[0], args[1], **kwargs)
        if func is F.linear and len(args) > 1:  # its twin without a bias has the same shape and products: no Python
            args, kwargs = args[:2], {}
        return func(*args, **kwargs)


def _products() -> Any:
    """Compute shapes of operations that change them; torch imports an algebra package for that, half a second."""
    if TorchDispatchMode is None:
        return nullcontext()

    class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            known = _known_product(func, args)
            return func(*args, **(kwargs or {})) if known is None else known

    spare_the_compiler(Products.__torch_dispatch__)
    return Products()  # type: ignore[no-untyped-call]


def _known_product(func: Any, args: Any) -> Tensor | tuple[Tensor, Tensor] | None:
    """Return the result of an operation, if its shape is known here; None if torch has to compute it."""
    try:
        return PRODUCTS[func](*args) if func in PRODUCTS else None
    except (TypeError, ValueError, IndexError, AttributeError):  # other arguments than are known here
        return None


def _convolution(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    added: list[int],
    groups: int,
) -> Tensor | None:
    sides = _sides(images, weight.shape[2:], stride, padding, dilation)
    if transposed or images.shape[1] != weight.shape[1] * groups or min(sides) < 1:
        return None  # torch raises its own error for shapes that do not fit
    return images.new_empty(len(images), len(weight), *sides)


def _max_pool(
    images: Tensor, window: list[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0), *others: Any
) -> tuple[Tensor, Tensor] | None:
    sides = _sides(images, window, stride or window, padding, (1, 1))
    if others or min(sides) < 1:
        return None
    return images.new_empty(*images.shape[:-2], *sides), images.new_empty(0)


def _product(one: Tensor, other: Tensor) -> Tensor | None:
    if one.shape[-1] != other.shape[-2] or one.shape[:-2] != other.shape[:-2]:
        return None
    return one.new_empty(*one.shape[:-1], other.shape[-1])


PRODUCTS: dict[Any, Callable[..., Tensor | tuple[Tensor, Tensor] | None]] = {
    torch.ops.aten.convolution.default: _convolution,
    torch.ops.aten.max_pool2d_with_indices.default: _max_pool,
    torch.ops.aten.mm.default: _product,
    torch.ops.aten.bmm.default: _product,
}


def _sides(
    images: Tensor, window: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Return height and width of the output of a window moved over images (..., H, W)."""
    per_side = zip(images.shape[-2:], window, stride, padding, dilation, strict=True)
    return [(side + 2 * pad - spread * (kernel - 1) - 1) // step + 1 for side, kernel, step, pad, spread in per_side]


def _larger(first: Any, second: Any) -> Tensor | None:
    """Return the one of two tensors that has the shape of both, broadcast; None if neither has."""
    for one, other in ((first, second), (second, first)):
        there = other.shape if isinstance(other, Tensor) else ()
        if isinstance(one, Tensor) and len(there) <= one.dim():
            sides = zip(reversed(one.shape), reversed(there), strict=False)
            if all(side in (1, own) for own, side in sides):
                return one
    return None


def _one_of(tensor: Tensor, dims: int | Iterable[int], keepdim: bool = False) -> Tensor:
    """Return a view with the shape of the mean over `dims`, which costs torch no Python."""
    for dim in sorted((d % tensor.dim() for d in ([dims] if isinstance(dims, int) else dims)), reverse=True):
        tensor = tensor.narrow(dim, 0, 1) if keepdim else tensor.select(dim, 0)
    return tensor


# The index of an operator's argument that is a bias, if it takes one.
WHERE_BIASES_ARE: dict[Any, int] = {torch.ops.aten.addmm: 0, torch.ops.aten.convolution: 2}


def ptflops_macs(model: nn.Module, images: Tensor) -> tuple[int, int] | None:
    """Return the multiply-adds of one pass on the meta device, by ptflops' table of operators (its aten backend), and
    how many of them are additions of biases, which torch's counter leaves out.

    Only the file of the table is read: the package around it imports timm and torchvision, which takes three seconds,
    for its other backend. Returns None if this ptflops has no such table.
    """
    try:
        rules = _ptflops_rules()
    except (ImportError, AttributeError, OSError):
        return None
    if TorchDispatchMode is None:
        return None
    total = biases = 0

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal total, biases
            result = func(*args, **(kwargs or {}))
            operator = getattr(func, "_overloadpacket", None)
            rule = rules.get(operator)
            if rule is not None:
                total += rule(args, result if isinstance(result, tuple) else (result,))
                where = WHERE_BIASES_ARE.get(operator)
                biases += result.numel() if where is not None and args[where] is not None else 0
            return result

    spare_the_compiler(Counting.__torch_dispatch__)
    with torch.no_grad(), on_meta_device(), Counting():  # type: ignore[no-untyped-call]
        model(images)
    return total, biases


def _ptflops_rules() -> dict[Any, Callable[[Any, Any], int]]:
    package = importlib.util.find_spec("ptflops")
    if package is None or not package.submodule_search_locations:
        raise ImportError("there is no ptflops")
    path = Path(package.submodule_search_locations[0]) / "aten_ops.py"
    spec = importlib.util.spec_from_file_location("featherweight_ptflops_aten_ops", path)
    if spec is None or spec.loader is None:
        raise ImportError("ptflops has no aten_ops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rules: dict[Any, Callable[[Any, Any], int]] = module.ATEN_OPS_MAPPING
    return rules
