"""Reading other people's checkpoints: tensors only, never code; and renaming what is read, all of it or nothing."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint that can't be read safely, or that is not what the converter was told."""


# Where training scripts put the weights, if not at the top.
HOLDERS = ("state_dict", "model_state_dict", "model")
# What tensors and plain containers are pickled as.
_PLAIN = {
    ("collections", "OrderedDict"),
    ("builtins", "frozenset"),
    ("builtins", "set"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
}
# What training frameworks leave in checkpoints beside weights: read as inert blanks, none of their code runs.
_LEFTOVERS = (
    "_codecs.encode", "argparse", "builtins.bytearray", "builtins.complex", "builtins.dict", "builtins.float",
    "builtins.getattr", "builtins.int", "builtins.list", "builtins.long", "builtins.range", "builtins.slice",
    "builtins.str", "builtins.unicode", "builtins.xrange", "collections.defaultdict", "collections.deque",
    "datetime", "functools", "lightning", "lightning_fabric", "lightning_utilities", "numpy", "omegaconf",
    "pathlib", "pytorch_lightning", "torch.optim", "torchmetrics", "types.SimpleNamespace", "typing", "yacs",
)  # fmt: skip


class _Stub:
    """Stands for an object that is not wanted: takes whatever a pickle does to it, and holds nothing."""

    def __new__(cls, *_: object, **__: object) -> _Stub:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def append(self, _: object) -> None:
        pass

    def extend(self, _: object) -> None:
        pass

    def add(self, _: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)


class _TensorUnpickler(pickle._Unpickler):
    """Builds tensors and plain containers; blanks training leftovers; refuses everything else.

    It is pickle's Python twin, whose steps can be replaced: BUILD sets attributes of whatever a file points it at,
    functions and classes of this process among them.
    """

    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        module = (
            "builtins" if module == "__builtin__" else module
        )  # as Python 2 called it, and pickles still do
        if (module, name) in _PLAIN or (
            module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            return super().find_class(module, name)
        if f"{module}.{name}.".startswith(tuple(f"{leftover}." for leftover in _LEFTOVERS)):
            return _Stub
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which is neither a tensor nor a container"
        )

    def load_build(self) -> None:
        self.stack.pop()  # attributes: nobody wants them
        target = self.stack[-1]
        if type(target) not in (_Stub, OrderedDict):
            name = getattr(target, "__name__", type(target).__name__)
            raise pickle.UnpicklingError(f"it asks to change {name}, which is no object of its own")

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}


def _load_pickle(file: IO[bytes], **options: Any) -> Any:
    return _TensorUnpickler(file, **options).load()


# As much of the module `pickle` as torch.load asks for.
_INERT_PICKLE = SimpleNamespace(Unpickler=_TensorUnpickler, load=_load_pickle, __name__="anthrotap")


def load_tensors(
    path: Path, anchors: Sequence[str] = (), holders: Sequence[str] = HOLDERS
) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: `.npz`, or a PyTorch file, which may have them in one of `holders`.

    No code of the file is run. A Lightning file's other contents (hyper-parameters, callbacks) are read past.

    Args:
        anchors: Names that the model is known by. What stands before most of them, as `model.` or `module.`, comes
            off the names that have it.

    Raises:
        CheckpointError: if the file is no such checkpoint, or asks for code.
        OSError: if it can't be read.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such checkpoint", str(path))
    tensors = _load_npz(path) if path.suffix == ".npz" else _load_torch(path, holders)
    prefix = _prefix(tensors, anchors)
    if not prefix:
        return tensors
    twice = [name for name in tensors if f"{prefix}{name}" in tensors]
    if twice:
        raise CheckpointError(f"{path} holds with and without {prefix} before it: {_listed(twice)}")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _prefix(names: Mapping[str, Any], anchors: Sequence[str]) -> str:
    """What stands before most anchors; the shortest, where several models of a kind are in one file."""
    found = Counter(
        name.removesuffix(anchor)
        for anchor in anchors
        for name in names
        if name == anchor or name.endswith((f".{anchor}", f"/{anchor}"))
    )
    return min(found, key=lambda prefix: (-found[prefix], len(prefix)), default="")


def _load_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name], np.float32)) for name in arrays.files}
    except (ValueError, TypeError, EOFError, AttributeError, zlib.error, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is no .npz of plain arrays: {error}") from error


def _load_torch(path: Path, holders: Sequence[str]) -> dict[str, Tensor]:
    if _is_torchscript(path):
        raise CheckpointError(f"{path} is a TorchScript program, not a file of weights")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = _load_with_leftovers(path)
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is no PyTorch checkpoint: {_first_line(error)}") from error
    if isinstance(content, Mapping):
        held = (content[holder] for holder in holders if isinstance(content.get(holder), Mapping))
        content = next(held, content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no {' or '.join(holders)}")
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"{path} holds more than tensors where weights should be: {_listed(strange)}")
    return dict(content)


# What torch.load raises for a file that is damaged, or that is something else.
_DAMAGE = (
    *(RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError, AssertionError),
    *(OverflowError, MemoryError, RecursionError),
)


def _load_with_leftovers(path: Path) -> Any:
    """A file that PyTorch's own weights-only reader refuses, read by the stricter-than-pickle one above."""
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_INERT_PICKLE)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused: {_first_line(error)}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{path} is no PyTorch checkpoint: {_first_line(error)}") from error


def _is_torchscript(path: Path) -> bool:
    """Its code would be loaded by another, trusting reader."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # torch.load says what is wrong with it


@dataclass(frozen=True)
class Rename:
    """One line of a converter's table.

    Attributes:
        target: Our name, `{}` for each number in it; or a name with its own numbers, which goes first.
        sources: The released names that it is made from, with the same `{}`.
        merge: Makes our tensor from theirs, in that order; one tensor goes over as it is.
    """

    target: str
    sources: tuple[str, ...]
    merge: Callable[..., Tensor] = lambda tensor: tensor


def rename_tensors(
    source: Mapping[str, Tensor], model: nn.Module, table: Sequence[Rename]
) -> dict[str, Tensor]:
    """The state dict of `model` from released tensors, by a table.

    Raises:
        CheckpointError: listing every tensor that is missing, left over, of another shape than the model's or not
            finite.
    """
    lines = {line.target: line for line in table}
    result, used, missing, misshapen, broken = {}, set(), [], [], []
    for name, wanted in model.state_dict().items():
        numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
        line = lines.get(name) or lines[re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)]
        names = [each.format(*numbers) for each in line.sources]
        used.update(names)
        absent = [each for each in names if each not in source]
        missing += absent
        if absent:
            continue
        try:
            tensor = line.merge(*(source[each] for each in names))
        except (RuntimeError, IndexError):
            tensor = None
        if tensor is None or tensor.shape != wanted.shape:
            shapes = ", ".join(f"{each} {list(source[each].shape)}" for each in names)
            misshapen.append(f"{shapes} (for {name} {list(wanted.shape)})")
        elif not tensor.isfinite().all():
            broken += [each for each in names if not source[each].isfinite().all()]
        else:
            result[name] = tensor.to(wanted.dtype).contiguous()
    extra = [name for name in source if name not in used]
    problems = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (
            ("missing", list(dict.fromkeys(missing))),
            ("not expected", extra),
            ("of another shape", misshapen),
            ("not finite", list(dict.fromkeys(broken))),
        )
        if names
    ]
    if problems:
        raise CheckpointError("the checkpoint does not fit the model; " + "; ".join(problems))
    return result


def size_of(tensors: Mapping[str, Tensor], what: str, *places: tuple[str, int]) -> int:
    """The length of an axis (tensor, axis) that several tensors share: of the first that is there.

    So a missing tensor does not hide what else is missing, which `rename_tensors` lists.

    Raises:
        CheckpointError: if all are missing, so that this is no checkpoint of `what`; or if one has no such axis.
    """
    for name, axis in places:
        if name in tensors:
            if tensors[name].ndim <= axis:
                raise CheckpointError(f"{name} is {list(tensors[name].shape)}: too few axes for a {what}")
            return tensors[name].shape[axis]
    names = dict.fromkeys(name for name, _ in places)
    raise CheckpointError(f"this is no {what} checkpoint: it has no {' or '.join(names)}")


def warn_unless_released(config: Any, released: Sequence[Any], sizes: Sequence[str]) -> None:
    """Warn of a configuration whose sizes are none of the `released` ones: a part may have been lost unseen.

    Args:
        sizes: Names of the configuration's entries that are compared, dotted where nested.
    """

    def differing(other: Any) -> list[str]:
        pairs = ((name, *(_plain(attrgetter(name)(each)) for each in (config, other))) for name in sizes)
        return [f"{name} {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]

    nearest = min(map(differing, released), key=len)
    if nearest:
        warnings.warn(
            f"sizes of the checkpoint are none of the released ones: {'; '.join(nearest)}", stacklevel=3
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
