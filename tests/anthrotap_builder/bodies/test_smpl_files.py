"""Model files of the SMPL family: where they are found, and how invalid ones are rejected."""

from __future__ import annotations

import copyreg
import os
import pickle
import runpy
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from anthrotap_builder.bodies import load_body
from anthrotap_builder.bodies.smpl_files import MODELS, find_model_file
from anthrotap_builder.utils.assets import AssetError
from anthrotap_hf.utils.safe_pickle import array_of, safe_load
from helpers.body_files import JOINTS, SMALL, smpl_arrays, write_smpl


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no other folder of models."""
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANTHROTAP_BODY_MODELS", raising=False)
    return tmp_path / "cache" / "body_models"


@pytest.mark.parametrize(
    ("name", "gender", "file"),
    [
        ("smpl", "neutral", "smpl/SMPL_NEUTRAL.pkl"),
        ("smpl", "neutral", "smpl/basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"),
        ("smpl", "male", "smpl/basicmodel_m_lbs_10_207_0_v1.1.0.pkl"),
        ("smpl", "female", "basicModel_f_lbs_10_207_0_v1.0.0.pkl"),
        ("smplh", "male", "smplh/SMPLH_male.pkl"),
        ("smplh", "female", "smplh/SMPLH_FEMALE.npz"),
        ("smplx", "female", "smplx/SMPLX_FEMALE.npz"),
        ("smplx", "neutral", "SMPLX_NEUTRAL.npz"),
    ],
)
@pytest.mark.parametrize("where", ["argument", "environment", "cache"])
def test_files_are_found_by_the_names_that_people_have(name, gender, file, where, nowhere, tmp_path, monkeypatch):
    root = nowhere if where == "cache" else tmp_path / "models"
    path = root / file
    path.parent.mkdir(parents=True)
    path.touch()
    if where == "environment":
        monkeypatch.setenv("ANTHROTAP_BODY_MODELS", str(root))
    found = find_model_file(name, gender, root if where == "argument" else None)
    assert found.samefile(path)
    if where == "argument":
        assert find_model_file(name, gender, path) == path


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("smpl", "https://smpl.is.tue.mpg.de"),
        ("smplh", "https://mano.is.tue.mpg.de"),
        ("smplx", "https://smpl-x.is.tue.mpg.de"),
    ],
)
def test_the_error_of_a_missing_file_says_where_to_get_it_and_where_to_put_it(name, page, nowhere):
    with pytest.raises(AssetError) as caught:
        load_body(name, "female")
    message = str(caught.value)
    assert "\n" not in message
    assert f"no female {MODELS[name].title} body model" in message
    assert f"register at {page} (free for non-commercial research" in message
    put = nowhere / name / f"{name.upper()}_FEMALE.pkl"
    assert f"put it at {put} (or .npz)" in message
    write_smpl(put.with_suffix(".npz"), SMALL, JOINTS[name])
    assert load_body(name, "female") is load_body(name, "female")
    with pytest.raises(AssetError, match=rf"no male {MODELS[name].title} body model \(only female\)"):
        load_body(name, "male")


def test_a_missing_path_and_a_wrong_gender_are_errors(tmp_path: Path, model_files):
    with pytest.raises(
        AssetError,
        match=r"/lion\.pkl: there is no such body model; register at https://smal\.is\.tue\.mpg\.de",
    ):
        load_body("smal", file=tmp_path / "lion.pkl")
    with pytest.raises(AssetError, match=r"/SMPL_MALE\.pkl: there is no such body model; .* put it there"):
        load_body("smpl", "male", tmp_path / "SMPL_MALE.pkl")
    male = write_smpl(tmp_path / "basicmodel_m_lbs_10_207_0_v1.1.0.pkl", SMALL)
    with pytest.raises(AssetError, match=r"v1\.1\.0\.pkl: it is male by its name; set gender to male, not neutral"):
        load_body("smpl", file=male)
    assert load_body("smpl", "male", male).num_joints == 24
    with pytest.raises(ValueError, match="no gender 'other': choose from neutral, male, female"):
        load_body("smpl", "other")
    with pytest.raises(ValueError, match="smal needs a file"):
        load_body("smal")
    with pytest.raises(ValueError, match="smal has no gender"):
        load_body("smal", "male", model_files["smal"])
    with pytest.raises(ValueError, match="anny body has no gender and no file"):
        load_body("anny", "male")


# Files that are not what they should be


def without(key):
    return lambda arrays: arrays.pop(key)


def put(key, value):
    return lambda arrays: arrays.update({key: value(arrays[key]) if callable(value) else value})


def spoil(key, at, value):
    def change(arrays):
        arrays[key][at] = value

    return change


@pytest.mark.parametrize("suffix", [".npz", ".pkl"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("posedirs"), "it has no posedirs"),
        (without("f"), "it has no f"),
        (put("weights", lambda w: w[:-1]), "weights is 899 x 24, not 900 x 24"),
        (put("v_template", lambda v: v[:800]), "shapedirs is 900 x 3 x 10, not 800 x 3 x any"),
        (put("posedirs", lambda p: p[..., :9]), "posedirs is 900 x 3 x 9, not 900 x 3 x 207"),
        (put("J_regressor", lambda r: r.T), "J_regressor is 900 x 24, not 24 x 900"),
        (put("f", lambda f: f[:, :2]), "f is 1796 x 2, not any x 3"),
        (put("f", lambda f: f[:0]), "no triangles"),
        (put("f", lambda f: f.astype(float)), "no triangles of vertex numbers"),
        (spoil("f", (0, 0), 900), "faces name vertices 0 to 900, and v_template has 900"),
        (put("f", lambda f: f[(f < 800).all(1)]), "faces name vertices 0 to 799, and v_template has 900"),
        (put("f", lambda f: f.astype(np.int32) - 1), "faces name vertices -1 to 898"),
        (put("kintree_table", lambda k: k[0]), "not two rows of joint numbers"),
        (spoil("kintree_table", (0, 1), 5), "no tree"),
        (spoil("kintree_table", (0, 5), 77), "no tree"),
        (spoil("kintree_table", (1, 5), 6), "no tree"),
        (spoil("weights", 3, 0.5), "skinning weights of a vertex do not sum to one"),
        (spoil("shapedirs", (1, 1, 1), np.nan), "shapedirs holds NaN"),
        (put("v_template", "lbs"), "v_template"),
        (put("weights", 3.0), "weights is a single number"),
        (put("v_template", lambda v: np.array([{}, 1])), "v_template: "),
    ],
)
def test_arrays_that_do_not_fit_are_errors_in_one_line(change, reason, suffix, tmp_path: Path):
    arrays = smpl_arrays(SMALL, 24)
    change(arrays)
    path = tmp_path / f"broken{suffix}"
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        path.write_bytes(pickle.dumps(arrays, 2))
    with pytest.raises(AssetError) as caught:
        load_body("smpl", file=path)
    message = str(caught.value)
    assert message.startswith(f"{path}: no SMPL body model: ")
    assert reason in message
    assert message.endswith("; those of SMPL are at https://smpl.is.tue.mpg.de")
    assert "\n" not in message


@pytest.mark.parametrize("asked", ["smpl", "smplh", "smplx"])
@pytest.mark.parametrize("other", ["smpl", "smplh", "smplx", "smal"])
def test_another_models_file_is_recognized(asked: str, other: str, model_files):
    if asked == other:
        return
    reason = "and" if other == "smal" else f"as {MODELS[other].title} has, which is the body {other}"
    with pytest.raises(AssetError, match=f"{JOINTS[other]} joints, {reason}"):
        load_body(asked, file=model_files[other])


def test_a_person_is_no_animal(tmp_path: Path):
    path = write_smpl(tmp_path / "smpl.npz", 6890, 24)
    with pytest.raises(AssetError, match="as SMPL has, which is the body smpl"):
        load_body("smal", file=path)
    assert load_body("smal", file=write_smpl(tmp_path / "bird.npz", SMALL, 24)).num_joints == 24


def test_files_that_are_no_archives(tmp_path: Path):
    for name, content, reason in (
        ("a.npz", b"PK\x03\x04 not really", "no SMPL body model"),
        ("b.npz", b"", "no SMPL body model"),
        ("c.pkl", b"", "no SMPL body model: it is no pickle"),
        ("d.pkl", b"\x80\x02no", "no SMPL body model"),
        ("e.pkl", pickle.dumps([1, 2]), "it holds a list, not a dictionary"),
        ("f.txt", b"", r"ends neither in \.npz nor in \.pkl"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(AssetError, match=reason) as caught:
            load_body("smpl", file=path)
        assert "\n" not in str(caught.value)
    whole = write_smpl(tmp_path / "whole.npz", SMALL).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match=r"half\.npz: no SMPL body model"):
        load_body("smpl", file=tmp_path / "half.npz")


# Pickles


class Ch:
    """As chumpy's class is pickled: by its attributes."""

    def __init__(self, **parts):
        self.__dict__.update(parts)


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch):
    """`chumpy(module, name, **parts)` makes an object that is pickled as one of chumpy's."""

    def make(module: str, name: str, **parts: object) -> Ch:
        for each in ("chumpy", module):
            if each not in sys.modules:
                monkeypatch.setitem(sys.modules, each, ModuleType(each))
        if not hasattr(sys.modules[module], name):
            setattr(sys.modules[module], name, type(name, (Ch,), {"__module__": module}))
        return getattr(sys.modules[module], name)(**parts)

    return make


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_all_protocols_and_kinds_of_arrays_are_read(protocol: int, tmp_path: Path):
    rng = np.random.default_rng(0)
    sparse = scipy.sparse.random(5, 7, 0.3, random_state=0)
    arrays = {
        "plain": rng.normal(size=(3, 4)),
        "fortran": np.asfortranarray(rng.normal(size=(3, 4, 2))),
        "permuted": rng.normal(size=(3, 4, 5)).transpose(2, 0, 1),
        "strided": rng.normal(size=(6, 4))[::2],
        "big endian": np.arange(3, dtype=">u4"),
        "none": np.zeros((0, 3)),
        "bool": np.array([True, False]),
        "half": np.float16([1.5]),
        "single": np.array(2.0),
    }
    matrices = {
        f"{kind}_{of}": getattr(scipy.sparse, f"{kind}_{of}")(sparse)
        for kind in ("csc", "csr", "coo")
        for of in ("matrix", "array")
    }
    others = {"scalar": np.float64(3.5), "list": [[1, 2], [3, 4]], "number": 7}
    inert = {
        "set": {1},
        "frozen": frozenset([1]),
        "ordered": OrderedDict(a=1),
        "text": "lbs",
        "none at all": None,
    }
    path = tmp_path / "arrays.pkl"
    path.write_bytes(pickle.dumps({**arrays, **matrices, **others, **inert}, protocol))
    content = safe_load(path, body_model=True)
    for key, value in {**arrays, **others}.items():
        got = array_of(content[key])
        assert got.dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(got, value)
    for key, matrix in matrices.items():
        np.testing.assert_array_equal(array_of(content[key]), matrix.toarray())
    assert {key: content[key] for key in inert} == inert
    with pytest.raises(ValueError, match="no array of numbers"):
        array_of(content["text"])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_chumpys_arrays_are_read_without_chumpy(protocol: int, chumpy, tmp_path: Path):
    arrays = smpl_arrays(SMALL, 24, shapes=14)
    source = chumpy("chumpy.ch", "Ch", x=arrays["shapedirs"], _dirty_vars=set(), dterms=("x",))
    chosen = np.arange(arrays["shapedirs"].size).reshape(arrays["shapedirs"].shape)[..., :10]
    content = {
        **arrays,
        "shapedirs": chumpy("chumpy.reordering", "Select", a=source, idxs=chosen.ravel(), preferred_shape=chosen.shape),
        "v_template": chumpy("chumpy.ch", "Ch", x=arrays["v_template"]),
        "J": chumpy("chumpy.ch_ops", "MatVecMult", mtx=None, vec=source),  # never used
    }
    path = tmp_path / "old.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    body = load_body("smpl", file=path)
    np.testing.assert_allclose(body.template, arrays["v_template"], atol=1e-6)
    np.testing.assert_allclose(body.shape_directions, arrays["shapedirs"][..., :10].transpose(2, 0, 1), atol=1e-7)
    content["posedirs"] = content["J"]
    path = tmp_path / "computed.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(AssetError, match=r"posedirs: a computed chumpy\.ch_ops\.MatVecMult; save it as a plain"):
        load_body("smpl", file=path)


def python_2_pickle(arrays: dict[str, np.ndarray]) -> bytes:
    """What Python 2.7 with chumpy and an old scipy writes, opcode by opcode: byte strings, old module names."""

    def string(text: bytes) -> bytes:
        return b"T" + len(text).to_bytes(4, "little") + text

    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little", signed=True)

    def array(value: np.ndarray) -> bytes:
        code = f"{value.dtype.kind}{value.dtype.itemsize}".encode()
        dtype = b"cnumpy\ndtype\n(" + string(code) + number(0) + number(1) + b"tR(" + number(3) + string(b"<")
        dtype += b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
        made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(" + number(0) + b"t" + string(b"b") + b"tR"
        shape = b"(" + b"".join(number(size) for size in value.shape) + b"t"
        return made + b"(" + number(1) + shape + dtype + b"I00\n" + string(value.tobytes()) + b"tb"

    def thing(module: bytes, name: bytes, **state: bytes) -> bytes:
        items = b"".join(string(key.encode()) + value for key, value in state.items())
        made = b"ccopy_reg\n_reconstructor\n(c" + module + b"\n" + name + b"\nc__builtin__\nobject\nNtR"
        return made + b"}(" + items + b"ub"

    matrix = scipy.sparse.csc_matrix(arrays["J_regressor"])
    shape = b"(" + number(matrix.shape[0]) + number(matrix.shape[1]) + b"t"
    values = {key: array(value) for key, value in arrays.items()}
    values["J_regressor"] = thing(
        *(b"scipy.sparse.csc", b"csc_matrix"),
        **{"_shape": shape, "data": array(matrix.data), "maxprint": number(50)},
        **{"indices": array(matrix.indices), "indptr": array(matrix.indptr)},
    )
    values["posedirs"] = thing(
        b"chumpy.ch", b"Ch", x=array(arrays["posedirs"]), _dirty_vars=b"c__builtin__\nset\n((ltR"
    )
    values["bs_type"] = string(b"lrotmin \xff")
    return b"\x80\x02}(" + b"".join(string(key.encode()) + value for key, value in values.items()) + b"u."


def test_a_pickle_of_python_2_is_read(tmp_path: Path):
    arrays = smpl_arrays(SMALL, 24)
    path = tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl"
    path.write_bytes(python_2_pickle(arrays))
    body = load_body("smpl", file=path)
    np.testing.assert_allclose(body.joints, arrays["J_regressor"] @ arrays["v_template"], atol=1e-12)
    np.testing.assert_allclose(body.pose_directions, arrays["posedirs"].transpose(2, 0, 1), atol=1e-7)


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_pickles_that_need_other_classes_are_rejected_and_run_nothing(tmp_path: Path, chumpy):
    mark = tmp_path / "was here"
    object_array = np.empty(1, object)
    object_array[0] = Calls(os.system, f"touch '{mark}'")
    attacks = {
        "posix.system": Calls(os.system, f"touch '{mark}'"),
        "builtins.eval": Calls(eval, f"open({str(mark)!r}, 'w')"),
        "builtins.exec": {"a": [Calls(exec, f"open({str(mark)!r}, 'w')")]},
        "io.open": Calls(open, str(mark), "w"),
        "builtins.getattr": Calls(getattr, "a", "upper"),
        "runpy.run_path": Calls(runpy.run_path, str(tmp_path / "none.py")),
        "builtins.bytearray": Calls(bytearray, 10**12),
        "numpy.load": Calls(np.load, "x"),
        "scipy.sparse._matrix_io.load_npz": Calls(scipy.sparse.load_npz, "x"),
        "posix.system, which": chumpy("chumpy.ch", "Ch", x=Calls(os.system, f"touch '{mark}'")),
        "posix.system, which is": object_array,
        "to encode by 'rot13'": Calls(__import__("_codecs").encode, "abc", "rot13"),
        "bytes of its own making": Calls(bytes, 10**12),
        "to make an object of <class 'set'>": Calls(copyreg._reconstructor, set, object, None),
    }
    for asked, attack in attacks.items():
        for protocol in (0, 2, 5):
            path = tmp_path / f"{protocol}.pkl"
            path.write_bytes(pickle.dumps({**smpl_arrays(SMALL, 24), "J": attack}, protocol))
            with pytest.raises(AssetError) as caught:
                load_body("smpl", file=path)
            message = str(caught.value)
            assert "asks" in message
            assert asked in message
            assert "\n" not in message
    assert not mark.exists()


def test_arrays_that_contradict_each_other_are_rejected(chumpy, tmp_path: Path):
    def read(value: object) -> np.ndarray:
        path = tmp_path / "one.pkl"
        path.write_bytes(pickle.dumps({"value": value}))
        return array_of(safe_load(path, body_model=True)["value"])

    outside = scipy.sparse.csc_matrix(np.eye(3))
    outside.indices[1] = 1_000_000
    with pytest.raises(ValueError, match=r"csc_matrix whose entries lie outside its 3 x 3"):
        read(outside)
    outside.indices[1] = -1
    with pytest.raises(ValueError, match="outside"):
        read(outside)
    outside.indices[1], outside.indptr[2] = 1, 10**9
    with pytest.raises(ValueError, match="whose rows or columns do not hold its entries"):
        read(outside)
    source = chumpy("chumpy.ch", "Ch", x=np.arange(4.0))
    with pytest.raises(ValueError, match="out of bounds"):
        read(chumpy("chumpy.reordering", "Select", a=source, idxs=np.array([9])))
    with pytest.raises(ValueError, match=r"chumpy\.reordering\.Select without idxs"):
        read(chumpy("chumpy.reordering", "Select", a=source))
    endless = chumpy("chumpy.reordering", "Select", idxs=np.array([0]))
    endless.a = endless
    with pytest.raises(ValueError, match="recursion"):
        read(endless)
    with pytest.raises(ValueError, match="not of plain numbers"):
        read(np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
    with pytest.raises(ValueError, match="not of plain numbers"):
        read(np.array(["text"]))
    with pytest.raises(ValueError, match="not of plain numbers"):
        read(np.array([None]))


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_damaged_pickle_is_a_value_error_and_nothing_else(data, tmp_path_factory: pytest.TempPathFactory):
    matrix = scipy.sparse.csc_matrix(np.eye(3))
    things = {"a": np.arange(6.0).reshape(2, 3), "m": matrix, "s": np.float32(1)}
    content = bytearray(pickle.dumps(things, data.draw(st.integers(0, 5))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "fuzzed.pkl"
    path.write_bytes(content)
    try:
        found = safe_load(path, body_model=True)
        for value in found.values() if isinstance(found, dict) else [found]:
            array_of(value)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017
