"""The layout's rules, as CONTRIBUTING states them: which way imports go, and what no file or function may become."""

from __future__ import annotations

from benchmarks.structure import PACKAGES, ROOT, circles, folder_graph, source_files

FILES = source_files()
COMMANDS = "anthrotap_hf.cli"
# They alone may import the builder, and only when it is needed.
MAY_IMPORT_BUILDER = ("anthrotap_hf.cli", "anthrotap_hf.app", "anthrotap_hf.data.loading")


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}}) == [["b", "c"], ["d"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_imports_have_no_circles():
    assert circles({name: file.imports for name, file in FILES.items()}) == []
    assert circles(folder_graph(FILES)) == []


def test_the_builder_is_imported_by_few_and_only_when_used():
    for name, file in FILES.items():
        if name.startswith("anthrotap_hf"):
            assert not [other for other in file.imports if other.startswith("anthrotap_builder")], name
            if not name.startswith(MAY_IMPORT_BUILDER):
                assert not [m for m in file.lazy_imports if m.startswith("anthrotap_builder")], name


def test_the_library_neither_prints_nor_imports_commands_or_benchmarks():
    for name, file in FILES.items():
        if not name.startswith(COMMANDS):
            assert not file.prints, f"{file.path}: print in lines {file.prints}"
            assert not [m for m in file.imports | file.lazy_imports if m.startswith(COMMANDS)], name
        assert "benchmarks" not in {module.split(".")[0] for module in file.imports | file.lazy_imports}, name


def test_files_and_functions_stay_small():
    long = [str(f.path) for f in FILES.values() if f.lines > 500 and not f.path.name.startswith("modeling_")]
    assert long == []
    # A command's parameters are its options; `forward` and the pipeline's hooks are transformers' interface.
    many = [
        f"{name}.{function}"
        for name, file in FILES.items()
        for function, count in file.parameters.items()
        if count > 8 and not name.startswith(COMMANDS) and not function.endswith((".forward", "._sanitize_parameters"))
    ]
    assert many == []


def test_the_top_level_stays_small():
    for package, parent in PACKAGES.items():
        entries = [path.name for path in (parent / package).iterdir() if path.name != "__pycache__"]
        assert len(entries) <= {"anthrotap_hf": 20, "anthrotap_builder": 24}[package], entries
    assert (ROOT / "builder/anthrotap_builder").is_dir()
