"""How large and how tangled the code is: lines by folder, long files, functions with many parameters, import circles.

    python -m benchmarks.structure

Imports are read from the source, those inside functions apart: they are how heavy parts load when used.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"anthrotap_hf": ROOT, "anthrotap_builder": ROOT / "builder"}


@dataclass
class SourceFile:
    """One module: its path, its number of lines, what it imports, and its functions with their parameter counts.

    Attributes:
        imports: modules imported when it is imported.
        lazy_imports: modules imported inside its functions.
        parameters: by qualified name of a function, how many parameters it has, `self` and `cls` left out.
        prints: line numbers of calls of `print`.
    """

    path: Path
    lines: int
    imports: set[str] = field(default_factory=set)
    lazy_imports: set[str] = field(default_factory=set)
    parameters: dict[str, int] = field(default_factory=dict)
    prints: list[int] = field(default_factory=list)


def source_files() -> dict[str, SourceFile]:
    """All modules of both packages, by dotted name."""
    paths = {
        _module(path, parent): path
        for package, parent in PACKAGES.items()
        for path in sorted((parent / package).rglob("*.py"))
    }
    return {name: _read(name, path, paths) for name, path in paths.items()}


def folder_of(module: str) -> str:
    """The folder or top file of a package that a module belongs to: "anthrotap_hf.data" for its `loading`."""
    return ".".join(module.split(".")[:2])


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of nodes from which each reaches all others: none in a graph without circles."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {
        frozenset(other for other in reached[node] if node in reached.get(other, ()))
        for node in graph
        if node in reached[node]
    }
    return sorted(sorted(group) for group in groups)


def folder_graph(files: Mapping[str, SourceFile]) -> dict[str, set[str]]:
    """Which folder (or top file) imports which other, when imported."""
    graph: dict[str, set[str]] = defaultdict(set)
    for name, file in files.items():
        graph[folder_of(name)] |= {folder_of(other) for other in file.imports} - {folder_of(name)}
    # The package's own __init__ registers names with libraries and re-exports; folders import files, never it.
    return {folder: others - set(PACKAGES) for folder, others in graph.items() if folder not in PACKAGES}


def _reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += graph.get(node, ())
    return found


def _module(path: Path, parent: Path) -> str:
    parts = path.relative_to(parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read(name: str, path: Path, known: Mapping[str, Path]) -> SourceFile:
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    file = SourceFile(path, len(source.splitlines()))
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    _visit(tree, file, package, known, "", False)
    file.imports.discard(name)
    return file


def _visit(node: ast.AST, file: SourceFile, package: str, known: Mapping[str, Path], scope: str, lazy: bool) -> None:
    for child in ast.iter_child_nodes(node):
        inner_scope, inner_lazy = scope, lazy
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue  # for type checkers only
        if isinstance(child, ast.Import | ast.ImportFrom):
            (file.lazy_imports if lazy else file.imports).update(_imported(child, package, known))
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner_scope, inner_lazy = f"{scope}{child.name}.", True
            names = [a.arg for a in (*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs)]
            own = names[1:] if names[:1] in (["self"], ["cls"]) else names
            file.parameters[f"{scope}{child.name}"] = len(own)
        elif isinstance(child, ast.ClassDef):
            inner_scope = f"{scope}{child.name}."
        elif isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "print":
            file.prints.append(child.lineno)
        _visit(child, file, package, known, inner_scope, inner_lazy)


def _imported(node: ast.Import | ast.ImportFrom, package: str, known: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        base = node.module or ""
        if node.level:
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*above, *filter(None, [node.module])])
        names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names]
    return (name for name in names if name in known)


def main() -> None:
    files = source_files()
    by_folder: Counter[str] = Counter()
    for name, file in files.items():
        by_folder[folder_of(name)] += file.lines
    for folder, lines in by_folder.most_common():
        print(f"{lines:7,}  {folder}")
    print(f"{by_folder.total():7,}  lines in all")
    for name, parent in PACKAGES.items():
        entries = [entry for entry in (parent / name).iterdir() if entry.name != "__pycache__"]
        print(f"{len(entries):7}  entries in {name}/")
    long = {str(f.path.relative_to(ROOT)): f.lines for f in files.values() if f.lines > 500}
    print(f"files over 500 lines: {long or 'none'}")
    many = {
        f"{module}.{function}": count
        for module, file in files.items()
        for function, count in file.parameters.items()
        if count > 8
    }
    print(f"functions with more than eight parameters: {many or 'none'}")
    graph = {name: file.imports for name, file in files.items()}
    print(f"import circles between files: {circles(graph) or 'none'}")
    print(f"import circles between folders: {circles(folder_graph(files)) or 'none'}")


if __name__ == "__main__":
    main()
