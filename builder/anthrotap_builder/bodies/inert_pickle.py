"""Arrays out of pickled body models: those of scipy and chumpy too, with neither installed, running nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.utils.safe_pickle import SafeUnpickler, Stub, array_of
from anthrotap_hf.utils.safe_pickle import safe_load as load_any

_SPARSE = re.compile(r"scipy\.sparse(\._?(csc|csr|coo|matrix))?\.(csc|csr|coo)_(matrix|array)")


class _Sparse(Stub):
    """A scipy.sparse matrix or array: csc, csr or coo, whichever its class name says."""

    def array(self) -> np.ndarray:
        """Dense."""
        rows, columns = (int(size) for size in self.part("_shape", "shape"))
        data = array_of(self.part("data"))
        kind = self.asked.rpartition(".")[2][:3]
        if kind == "coo":
            if isinstance(self.state, dict) and "coords" in self.state:
                row, column = (array_of(each) for each in self.state["coords"])
            else:
                row, column = array_of(self.part("row")), array_of(self.part("col"))
        else:
            inner, ends = array_of(self.part("indices")), array_of(self.part("indptr"))
            counts = np.diff(ends)
            if (counts < 0).any() or counts.sum() != data.size:
                raise ValueError(f"a {self.asked} whose rows or columns do not hold its entries")
            outer = np.repeat(np.arange(len(counts)), counts)
            row, column = (inner, outer) if kind == "csc" else (outer, inner)
        for index, size in ((row, rows), (column, columns)):
            if index.shape != data.shape or ((index < 0) | (index >= size)).any():
                raise ValueError(f"a {self.asked} whose entries lie outside its {rows} x {columns}")
        dense = np.zeros((rows, columns), data.dtype)
        np.add.at(dense, (row, column), data)
        return dense


class _Chumpy(Stub):
    """An array of the chumpy library: a plain one keeps it as `x`, a selection as flat indices into another."""

    def array(self) -> np.ndarray:
        if not isinstance(self.state, dict):
            raise ValueError(f"a {self.asked} without content")
        if "x" in self.state:
            return array_of(self.state["x"])
        if self.asked != "chumpy.reordering.Select":
            raise ValueError(f"a computed {self.asked}; save it as a plain array")
        chosen = array_of(self.part("a")).ravel()[array_of(self.part("idxs"))]
        shape = self.state.get("preferred_shape", chosen.shape)
        return chosen.reshape([int(size) for size in np.atleast_1d(array_of(shape))])


class _BodyUnpickler(SafeUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        asked = f"{module}.{name}"
        if _SPARSE.fullmatch(asked):
            return type(name, (_Sparse,), {"asked": asked})
        if module == "chumpy" or module.startswith("chumpy."):
            return type(name, (_Chumpy,), {"asked": asked})
        return super().find_class(module, name)


def safe_load(path: Path) -> dict[str, Any]:
    """The dictionary that a pickle holds; `array_of` makes arrays of its values; a sparse one becomes dense.

    Raises:
        ValueError: if the file is damaged, holds no dictionary or asks for more than arrays; one line, without
            the path.
        OSError: if it cannot be read.
    """
    content = load_any(path, _BodyUnpickler)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of arrays")
    return content


__all__ = ["array_of", "safe_load"]
