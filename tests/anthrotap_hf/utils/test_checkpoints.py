import argparse
import collections
import os
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from anthrotap_hf.utils.checkpoints import CheckpointError, load_tensors, size_of
from anthrotap_hf.utils.safe_pickle import Stub


class Evil:
    """If its code is run by unpickling, it creates a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_state_dict_or_bare_tensors_with_or_without_a_prefix(tmp_path):
    weight = torch.rand(3)
    for content in (
        {"state_dict": {"model.a": weight}},
        {"model": {"a": weight}, "epoch": 3},
        {"model_state_dict": {"module.a": weight}},
        {"module.model.a": weight},
        {"a": weight},
    ):
        torch.save(content, tmp_path / "x.ckpt")
        loaded = load_tensors(tmp_path / "x.ckpt", anchors=("a",))
        assert list(loaded) == ["a"]
        assert torch.equal(loaded["a"], weight)


def test_a_prefix_comes_off_the_names_that_have_it(tmp_path):
    a, b = torch.rand(2), torch.rand(2)
    torch.save({"model.a": a, "model.b": b, "loss.scale": a, "ema_model.a": b}, tmp_path / "x.pt")
    assert set(load_tensors(tmp_path / "x.pt", anchors=("a",))) == {"a", "b", "loss.scale", "ema_model.a"}
    assert "model.a" in load_tensors(tmp_path / "x.pt", anchors=("other",))
    torch.save({"model.a": a, "a": b, "model.b": b}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"with and without model\. before it: a"):
        load_tensors(tmp_path / "x.pt", anchors=("a", "b"))


def test_a_lightning_files_leftovers_are_read_past(tmp_path, monkeypatch):
    """Classes of the training framework, paths, numpy numbers: none is needed to be installed."""
    packages = ("lightning", "lightning.pytorch", "lightning.pytorch.callbacks")
    for package in packages:
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    module = sys.modules[packages[-1]]
    for name, kind in (("Checkpoint", object), ("AttributeDict", dict), ("Losses", list)):
        setattr(module, name, type(name, (kind,), {"__module__": module.__name__}))
    callback = module.Checkpoint()
    callback.best = np.float64(3)
    content = {
        "state_dict": collections.OrderedDict({"model.a": torch.nn.Parameter(torch.ones(2))}),
        "callbacks": {
            "checkpoint": callback,
            "folder": pathlib.PurePosixPath("/x"),
            "losses": module.Losses([1.0]),
        },
        "hyper_parameters": module.AttributeDict(lr=1e-3, sizes=np.ones(2)),
    }
    torch.save(content, tmp_path / "x.ckpt")
    for package in packages:
        monkeypatch.delitem(sys.modules, package)
    loaded = load_tensors(tmp_path / "x.ckpt", anchors=("a",))
    assert torch.equal(loaded["a"], torch.ones(2))


@pytest.mark.parametrize("nested", [False, True])
def test_code_is_rejected_and_never_run(tmp_path, nested):
    mark = tmp_path / "mark"
    content = {"state_dict": {"a": torch.rand(2)}, "hyper_parameters": {"x": Evil(mark)}}
    torch.save(content if nested else Evil(mark), tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"refused: it asks for \w+\.system") as caught:
        load_tensors(tmp_path / "x.ckpt")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_code_inside_leftovers_that_are_blanked_is_not_run_either(tmp_path):
    import functools

    mark = tmp_path / "mark"
    torch.save({"state_dict": {"a": torch.rand(2)}, "x": functools.partial(print, mark)}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"builtins\.print"):
        load_tensors(tmp_path / "x.ckpt")


class Crafted:
    """Pickles as a global and a BUILD with this state on it."""

    def __init__(self, module: str, name: str, state: object) -> None:
        self.parts = module, name, state

    def pickled(self) -> bytes:
        module, name, state = self.parts
        content = b"}X\x01\x00\x00\x00xc" + f"{module}\n{name}\n".encode()
        content += pickle.dumps(state, protocol=2)[2:-1]  # without protocol and stop
        return b"\x80\x02" + content + b"bs."


@pytest.mark.parametrize(
    ("module", "name", "state"),
    [
        ("torch._utils", "_rebuild_tensor_v2", (None, {"__defaults__": ()})),
        ("torch._utils", "_rebuild_tensor_v2", {"mark": 1}),
        ("torch._utils", "_rebuild_parameter", (None, {"__kwdefaults__": {}})),
        ("collections", "OrderedDict", (None, {"mark": 1})),
        ("torch", "Size", (None, {"mark": 1})),
        ("torch", "float32", (None, {"mark": 1})),
        ("torch", "FloatStorage", (None, {"mark": 1})),
        ("numpy", "ndarray", (None, {"append": 1})),  # the stub itself
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_functions_and_classes_of_the_process_stay_as_they_are(tmp_path, module, name, state, legacy):
    target = torch._utils._rebuild_tensor_v2
    before = target.__defaults__, dict(target.__dict__), dict(vars(Stub))
    content = Crafted(module, name, state).pickled()
    if legacy:
        header = (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})
        parts = [*(pickle.dumps(part, protocol=2) for part in header), content, pickle.dumps([], protocol=2)]
        (tmp_path / "x.ckpt").write_bytes(b"".join(parts))
    else:
        torch.save({}, tmp_path / "empty.ckpt")
        with (
            zipfile.ZipFile(tmp_path / "empty.ckpt") as empty,
            zipfile.ZipFile(tmp_path / "x.ckpt", "w") as crafted,
        ):
            for each in empty.namelist():
                crafted.writestr(each, content if each.endswith("data.pkl") else empty.read(each))
    with pytest.raises(CheckpointError, match="refused: it asks to change"):
        load_tensors(tmp_path / "x.ckpt")
    assert (target.__defaults__, dict(target.__dict__), dict(vars(Stub))) == before
    torch.save({"a": torch.ones(2)}, tmp_path / "fine.pt")
    assert torch.equal(load_tensors(tmp_path / "fine.pt")["a"], torch.ones(2))


@pytest.mark.parametrize("zipped", [False, True])
def test_harmless_python_beside_the_weights_is_read_past(tmp_path, zipped):
    content = {
        "model": torch.nn.Linear(2, 1).state_dict(),
        "args": argparse.Namespace(lr=1e-3, kind=int),
        "slices": [slice(1, 3), range(4), 2j, bytearray(b"x")],
        "more": types.SimpleNamespace(a=1),
        "counts": collections.defaultdict(list, a=[1]),
    }
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert list(load_tensors(tmp_path / "x.pth")) == ["weight", "bias"]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_named_in_the_error(tmp_path, recwarn):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 1), torch.rand(1, 2)), tmp_path / "x.pt")
    recwarn.clear()
    with pytest.raises(CheckpointError, match="is a TorchScript program"):
        load_tensors(tmp_path / "x.pt")
    assert not recwarn.list


def test_pickles_in_an_npz_are_rejected(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([Evil(tmp_path / "mark")], dtype=object))
    with pytest.raises(CheckpointError, match=r"no \.npz of plain arrays"):
        load_tensors(tmp_path / "x.npz")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["x.pt", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_other_files_are_rejected_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_content_without_weights_is_rejected(tmp_path):
    for content, message in (
        ({}, "no state_dict"),
        ([torch.rand(1)], "no state_dict"),
        ({"a": torch.rand(1), "epoch": 3}, "more than tensors .*epoch"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=message):
            load_tensors(tmp_path / "x.pt")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_tensors(tmp_path / "nowhere.pt")


def test_a_checkpoint_of_another_tracker_is_named():
    with pytest.raises(CheckpointError, match=r"no TAPIR .* it has no a; it seems to be one of LocoTrack"):
        size_of({"model.torch_pips_mixer.input_proj.weight": torch.zeros(1)}, "TAPIR", ("a", 0))
