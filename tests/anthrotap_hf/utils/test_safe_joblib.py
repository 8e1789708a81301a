"""The safe reader of joblib's files on files that joblib itself wrote."""

from pathlib import Path

import numpy as np
import pytest

from anthrotap_hf.utils.safe_joblib import safe_load_joblib
from anthrotap_hf.utils.safe_pickle import array_of

joblib = pytest.importorskip("joblib")

CONTENT = {
    "frame/000001.jpg": {
        "time": 0,
        "tid": [1, 4],
        "smpl": [{"betas": np.arange(10, dtype=np.float32)}],
        "camera": [np.array([0.1, -0.2, 30.0])],
    },
    "turned": np.asfortranarray(np.arange(12, dtype=np.int64).reshape(3, 4)),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.float32(2.5),
}


@pytest.mark.parametrize("compress", [0, 3, ("zlib", 9), ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_joblib_s_own_files(tmp_path: Path, compress):
    path = tmp_path / "demo.pkl"
    joblib.dump(CONTENT, path, compress=compress)
    found = safe_load_joblib(path)
    assert found.keys() == CONTENT.keys()
    frame = found["frame/000001.jpg"]
    assert (frame["time"], frame["tid"]) == (0, [1, 4])
    expected = CONTENT["frame/000001.jpg"]
    pairs = [
        (frame["smpl"][0]["betas"], expected["smpl"][0]["betas"]),
        (frame["camera"][0], expected["camera"][0]),
        *((found[name], CONTENT[name]) for name in ("turned", "empty", "scalar")),
    ]
    for got, wanted in pairs:
        array = array_of(got)
        assert array.dtype == wanted.dtype
        np.testing.assert_array_equal(array, wanted)
