"""Reading other people's checkpoints: tensors only, never code; and renaming what is read, all of it or nothing."""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint that can't be read safely, or that is not what the converter was told."""


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
    "_codecs.encode", "argparse", "builtins.getattr", "datetime", "functools", "lightning", "lightning_fabric",
    "lightning_utilities", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torch.optim", "torchmetrics",
    "typing",
    "yacs",
)  # fmt: skip


class _Blank:
    """Stands for an object that is not wanted: takes whatever a pickle does to it, and holds nothing."""

    def __new__(cls, *_: object, **__: object) -> _Blank:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
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


class _TensorUnpickler(pickle.Unpickler):
    """Builds tensors and plain containers; blanks training leftovers; refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        module = (
            "builtins" if module == "__builtin__" else module
        )  # as Python 2 called it, and pickles still do
        if (module, name) in _PLAIN or (
            module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            return super().find_class(module, name)
        if f"{module}.{name}.".startswith(tuple(f"{leftover}." for leftover in _LEFTOVERS)):
            return _Blank
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, which is neither a tensor nor a container"
        )


def load_tensors(path: Path, prefixes: Sequence[str] = (), holder: str = "state_dict") -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: `.npz`, or a PyTorch file with or without a `holder` of them inside.

    No code of the file is run. A Lightning file's other contents (hyper-parameters, callbacks) are read past.

    Args:
        prefixes: The first of these that all names start with is taken off them.

    Raises:
        CheckpointError: if the file is no such checkpoint, or asks for code.
        OSError: if it can't be read.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such checkpoint", str(path))
    tensors = _load_npz(path) if path.suffix == ".npz" else _load_torch(path, holder)
    for prefix in prefixes:
        if all(name.startswith(prefix) for name in tensors):
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _load_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name], np.float32)) for name in arrays.files}
    except (ValueError, TypeError, EOFError, AttributeError, zlib.error, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is no .npz of plain arrays: {error}") from error


def _load_torch(path: Path, holder: str) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = _load_with_leftovers(path)
    except (RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path} is no PyTorch checkpoint: {_first_line(error)}") from error
    if isinstance(content, Mapping) and isinstance(content.get(holder), Mapping):
        content = content[holder]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no {holder}")
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"{path} holds more than tensors where weights should be: {_listed(strange)}")
    return dict(content)


def _load_with_leftovers(path: Path) -> Any:
    """A file that PyTorch's own weights-only reader refuses, read by the stricter-than-pickle one above."""
    reader = SimpleNamespace(Unpickler=_TensorUnpickler, load=_TensorUnpickler.load, __name__="anthrotap")
    try:
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is refused: {_first_line(error)}") from error
    except (RuntimeError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise CheckpointError(f"{path} is no PyTorch checkpoint: {_first_line(error)}") from error


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
        CheckpointError: listing every tensor that is missing, left over or of another shape than the model's.
    """
    lines = {line.target: line for line in table}
    result, used, missing, misshapen = {}, set(), [], []
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
        else:
            result[name] = tensor.to(wanted.dtype).contiguous()
    extra = [name for name in source if name not in used]
    problems = [
        f"{len(names)} {what}: {_listed(names)}"
        for what, names in (("missing", missing), ("not expected", extra), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise CheckpointError("the checkpoint does not fit the model; " + "; ".join(problems))
    return result


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
