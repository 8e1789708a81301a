import collections
import os
import pathlib
import sys
import types

import numpy as np
import pytest
import torch

from anthrotap_hf.checkpoints import CheckpointError, load_tensors


class Evil:
    """Unpickled carelessly, it makes a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_state_dict_or_bare_tensors_with_or_without_a_prefix(tmp_path):
    weight = torch.rand(3)
    for content in ({"state_dict": {"model.a": weight}}, {"model.a": weight}, {"a": weight}):
        torch.save(content, tmp_path / "x.ckpt")
        loaded = load_tensors(tmp_path / "x.ckpt", prefixes=("model.",))
        assert list(loaded) == ["a"]
        assert torch.equal(loaded["a"], weight)


def test_a_prefix_that_only_some_names_have_stays(tmp_path):
    torch.save({"model.a": torch.rand(1), "b": torch.rand(1)}, tmp_path / "x.pt")
    assert set(load_tensors(tmp_path / "x.pt", prefixes=("model.",))) == {"model.a", "b"}


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
    loaded = load_tensors(tmp_path / "x.ckpt", prefixes=("model.",))
    assert torch.equal(loaded["a"], torch.ones(2))


@pytest.mark.parametrize("hidden", [False, True])
def test_code_is_refused_and_never_run(tmp_path, hidden):
    mark = tmp_path / "mark"
    content = {"state_dict": {"a": torch.rand(2)}, "hyper_parameters": {"x": Evil(mark)}}
    torch.save(content if hidden else Evil(mark), tmp_path / "x.ckpt")
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


def test_pickles_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.array([Evil(tmp_path / "mark")], dtype=object))
    with pytest.raises(CheckpointError, match=r"no \.npz of plain arrays"):
        load_tensors(tmp_path / "x.npz")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["x.pt", "x.npz"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken"])
def test_other_files_are_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_tensors(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_content_without_weights_is_refused(tmp_path):
    for content, says in (
        ({}, "no state_dict"),
        ([torch.rand(1)], "no state_dict"),
        ({"a": torch.rand(1), "epoch": 3}, "more than tensors .*epoch"),
    ):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=says):
            load_tensors(tmp_path / "x.pt")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_tensors(tmp_path / "nowhere.pt")
