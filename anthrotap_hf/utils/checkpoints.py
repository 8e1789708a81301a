"""Reading other people's checkpoints (tensors only, never code), and renaming all of their tensors to a model's."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import DAMAGE, SafeUnpickler, Stub, UnsafeFileError, array_of, safe_load_npy

# Where training scripts put the weights, if not at the top.
HOLDERS = ("state_dict", "model_state_dict", "model")

# A name that only checkpoints of this tracker have, in PyTorch's layout.
MARKS = {
    "AllTracker": "update_block.compressor.weight",
    "CoTracker3": "updateformer.flow_head.weight",
    "LocoTrack": "torch_pips_mixer.input_proj.weight",
    "TAPIR": "torch_cost_volume_track_mods.hid1.weight",
    "TAPNext": "lin_proj.weight",
}

M = TypeVar("M", bound=nn.Module)


class CheckpointError(AnthroTapError):
    """A checkpoint cannot be read safely, or does not fit the model that it is converted to."""


class _TensorUnpickler(SafeUnpickler):
    """Builds tensors as well, and reads what training frameworks leave beside the weights as stubs."""

    known: ClassVar[dict[tuple[str, str], Any]] = {
        **SafeUnpickler.known,
        ("torch", "Size"): torch.Size,
        ("torch", "device"): torch.device,
        ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        **{("torch", name): kind for name, kind in vars(torch).items() if isinstance(kind, torch.dtype)},
    }
    stubs = (
        (
            re.compile(
                r"(argparse|datetime|functools|lightning|lightning_fabric|lightning_utilities|numpy|omegaconf|pathlib"
                r"|pytorch_lightning|torch\.optim|torchmetrics|typing|yacs)\..*|types\.SimpleNamespace"
                r"|collections\.(defaultdict|deque)|builtins\.(bytearray|complex|dict|float|getattr|int|list|long|range"
                r"|slice|str|unicode|xrange)"
            ),
            Stub,
        ),
    )


def _load_pickle(file: IO[bytes], **options: Any) -> Any:
    return _TensorUnpickler(file, **options).load()


# As much of the module `pickle` as torch.load asks for.
_SAFE_PICKLE = SimpleNamespace(Unpickler=_TensorUnpickler, load=_load_pickle, __name__="anthrotap")


def load_tensors(path: Path, anchors: Sequence[str] = (), holders: Sequence[str] = HOLDERS) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name: of an `.npz`, of haiku's `.npy`, or of a PyTorch file.

    No code of the file is run. What a Lightning file holds beside them (hyper-parameters, callbacks) is skipped.

    Args:
        anchors: names that the model is known by. What stands before most of them in the file, such as `model.` or
            `module.`, is removed from the names that have it.
        holders: keys under which a PyTorch file may have its tensors.

    Raises:
        CheckpointError: the file is no such checkpoint, or asks for code.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such checkpoint", str(path))
    if path.suffix == ".npz":
        tensors = _load_npz(path)
    elif path.suffix == ".npy":
        tensors = _load_haiku(path)
    else:
        tensors = _load_torch(path, holders)
    prefix = _prefix(tensors, anchors)
    if not prefix:
        return tensors
    twice = [name for name in tensors if f"{prefix}{name}" in tensors]
    if twice:
        raise CheckpointError(f"it holds with and without {prefix} before it: {', '.join(twice)}", path=path)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _prefix(names: Mapping[str, Any], anchors: Sequence[str]) -> str:
    """Return what stands before most anchors; the shortest, where several models of a kind are in one file."""
    found = Counter(
        name.removesuffix(anchor)
        for anchor in anchors
        for name in names
        if name == anchor or name.endswith((f".{anchor}", f"/{anchor}"))
    )
    return min(found, key=lambda prefix: (-found[prefix], len(prefix)), default="")


def _load_npz(path: Path) -> dict[str, Tensor]:
    try:
        arrays = safe_load_npz(path)
        return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    except UnsafeFileError as error:
        raise CheckpointError(error.reason, path=path) from error
    except ValueError as error:
        raise CheckpointError(f"it is no .npz of numbers: {one_line(error)}", path=path) from error


def _load_haiku(path: Path) -> dict[str, Tensor]:
    """Read what haiku's parameters are saved as by `numpy.save`: {"params": {module: {"w": array, ...}}}."""
    try:
        content = safe_load_npy(path)
        modules = content.get("params") if isinstance(content, dict) else None
        if not isinstance(modules, dict) or not all(isinstance(leaves, dict) for leaves in modules.values()):
            raise CheckpointError("it holds no params", path=path)
        return {
            f"{module}/{leaf}": torch.from_numpy(array_of(array).astype(np.float32))
            for module, leaves in modules.items()
            for leaf, array in leaves.items()
        }
    except UnsafeFileError as error:
        raise CheckpointError(error.reason, path=path) from error


def load_torch(path: Path) -> Any:
    """Return what a PyTorch file holds: containers, tensors and numbers, and stubs of what is skipped.

    Raises:
        CheckpointError: the file is no such one, damaged, or asks for code.
        OSError: the file cannot be read.
    """
    if _is_torchscript(path):
        raise CheckpointError("it is a TorchScript program, not a file of weights", path=path)
    try:
        return _load_content(path)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"it is refused: {_first_line(error)}", path=path) from error
    except DAMAGE as error:
        raise CheckpointError(f"it is no PyTorch checkpoint: {_first_line(error)}", path=path) from error
    except OSError as error:
        if error.filename is not None:
            raise
        # A file that is cut off: the reader seeks past its end.
        raise CheckpointError(f"it is no whole PyTorch checkpoint: {_first_line(error)}", path=path) from error


def _load_torch(path: Path, holders: Sequence[str]) -> dict[str, Tensor]:
    content = load_torch(path)
    if isinstance(content, Mapping):
        held = (content[holder] for holder in holders if isinstance(content.get(holder), Mapping))
        content = next(held, content)
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"it holds no {' or '.join(holders)}", path=path)
    strange = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"it holds more than tensors where weights should be: {', '.join(strange)}", path=path)
    return dict(content)


def _load_content(path: Path) -> Any:
    # PyTorch's own safe reader needs every class in the file to be allowed by name and installed, and a key that is
    # nested deeply crashes it.
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_SAFE_PICKLE)


def _is_torchscript(path: Path) -> bool:
    """Return whether torch.load would hand the file to its TorchScript reader, which runs code."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        # torch.load says what is wrong with it.
        return False


@dataclass(frozen=True)
class Rename:
    """One line of a converter's table.

    Attributes:
        target: our name, with `{}` for each number in it; or with its numbers, which goes before the former.
        sources: the released names that it is made from, with the same `{}`.
        merge: makes our tensor from theirs, in that order; by default, the one tensor is taken as it is.
    """

    target: str
    sources: tuple[str, ...]
    merge: Callable[..., Tensor] = lambda tensor: tensor


def rename_tensors(source: Mapping[str, Tensor], model: nn.Module, table: Sequence[Rename]) -> dict[str, Tensor]:
    """Return a state dict for `model`, made from released tensors by a table.

    Raises:
        CheckpointError: tensors are missing, not expected, of another shape than the model's or not finite; all
            are listed.
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
        f"{len(names)} {what}: {', '.join(names)}"
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


def build_model(kind: Callable[[Any], M], config: Any, tensors: Mapping[str, Tensor], table: Sequence[Rename]) -> M:
    """Return a model of a configuration with released tensors, renamed by a table as `rename_tensors` does."""
    # Its own weights are never made.
    with torch.device("meta"):
        model = kind(config)
    model.load_state_dict(rename_tensors(tensors, model, table), assign=True)
    return model.eval()


def size_of(tensors: Mapping[str, Tensor], what: str, *axes: tuple[str, int]) -> int:
    """Return the length of an axis that several tensors have in common: that of the first (tensor, axis) there is.

    So a missing tensor does not hide what else is missing, which `rename_tensors` lists.

    Raises:
        CheckpointError: all are missing, so this is no checkpoint of `what`; or one has no such axis.
    """
    for name, axis in axes:
        if name in tensors:
            if tensors[name].ndim <= axis:
                raise CheckpointError(f"{name} is {list(tensors[name].shape)}: too few axes for a {what}")
            return tensors[name].shape[axis]
    names = dict.fromkeys(name for name, _ in axes)
    kind = next((kind for kind, mark in MARKS.items() if any(name.endswith(mark) for name in tensors)), None)
    hint = None if kind is None else f"it seems to be one of {kind}: convert it as that"
    raise CheckpointError(f"this is no {what} checkpoint: it has no {' or '.join(names)}", hint=hint)


@contextmanager
def sizes_make(what: str) -> Iterator[None]:
    """Make a CheckpointError of what a configuration says against the sizes that a checkpoint's tensors have."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"the checkpoint's sizes make no {what}: {error}") from error


def warn_of_other_sines(name: str, *pairs: tuple[Tensor, Tensor]) -> None:
    """Warn if the sines that a checkpoint stores as `name`, which are no parameters, are not those that the model
    computes.

    Args:
        pairs: stored and computed tensors, of shapes that broadcast.
    """
    off = max((stored.float() - computed).abs().max().item() for stored, computed in pairs)
    if not off < 1e-3:
        warnings.warn(
            f"{name} of the checkpoint is ignored: the model computes sines, which differ by {off:.2g}", stacklevel=3
        )


def warn_unless_released(config: Any, released: Sequence[Any], sizes: Sequence[str]) -> None:
    """Warn if a configuration has the sizes of none of the `released` ones: a part may be missing unnoticed.

    Args:
        sizes: names of the configuration's entries that are compared, dotted where nested.
    """

    def differing(other: Any) -> list[str]:
        pairs = ((name, *(_plain(attrgetter(name)(each)) for each in (config, other))) for name in sizes)
        return [f"{name} {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]

    nearest = min(map(differing, released), key=len)
    if nearest:
        warnings.warn(f"sizes of the checkpoint are none of the released ones: {'; '.join(nearest)}", stacklevel=3)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _first_line(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
