"""Blocks of Markdown documents, and running them: tests run the code that a reader would copy.

A document is run from its top to its end, in a folder of its own. A comment above a block says what is to be known of
it:

    <!-- here: dance.mp4 labels/ -->   what the folder holds before the first block
    <!-- not run: REASON -->           the next block needs what is not to be had
    <!-- run with: WORDS -->           the next block's `anthrotap` commands get these arguments too, to be shorter
    <!-- file: NAME -->                the next block is the content of a file
    <!-- no block here is run: REASON -->   of a whole document

Blocks of bash are run by bash, those of python in one namespace a document; yaml and python that are files are
written; text is output, and is not run. Lines of bash that set up an environment (pip, make, git) are not run: these
tests' environment has more than they bring. What extras that `pip install` names would not bring is hidden from the
commands after it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sysconfig
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--((?:(?!-->).)*)-->\s*\Z", re.DOTALL)
SET_UP = ("pip install ", "make ", "git clone ")
KINDS = ("bash", "python", "yaml", "text", "bibtex")


@dataclass
class Block:
    """A fenced block: its language, text and first line's number, and its comment's text."""

    kind: str
    text: str
    line: int
    about: dict[str, str] = field(default_factory=dict)


def blocks(document: str) -> Iterator[Block]:
    """All fenced blocks, top to bottom."""
    for fence in _FENCE.finditer(document):
        before = document[: fence.start()]
        comment = _COMMENT.search(before)
        about = {}
        if comment and before[comment.start() :].count("\n\n") == 0:
            name, _, value = comment[1].strip().partition(":")
            about[name.strip()] = value.strip()
        text = re.sub(rf"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
        yield Block(fence[2], text, before.count("\n") + 2, about)


def wanted(document: str) -> list[str]:
    """Return the files of a document's folder before its first block."""
    found = re.search(r"<!-- here: (.+?) -->", document)
    return found[1].split() if found else []


def is_not_run(document: str) -> bool:
    return re.search(r"<!--(?:(?!-->).)*no block here is run:", document, re.DOTALL) is not None


def run_document(path: Path, folder: Path) -> int:
    """Runs all blocks of a document in a folder, which is the working directory; how many were run.

    Raises:
        AssertionError: if a command fails, with its output.
        Exception: whatever a block of Python raises; its traceback names the document.
    """
    document = path.read_text("utf-8")
    namespace: dict[str, Any] = {"__name__": "document"}
    environment = dict(os.environ)
    count = 0
    for block in blocks(document):
        assert block.kind in KINDS, f"{path.name}:{block.line}: a block needs a language, one of {', '.join(KINDS)}"
        if is_not_run(document) or "not run" in block.about or block.kind in ("text", "bibtex"):
            continue
        if name := block.about.get("file"):
            (folder / name).write_text(block.text)
        elif block.kind == "python":
            # As many empty lines as stand before it: errors name the document's own lines.
            code = compile("\n" * (block.line - 1) + block.text, str(path), "exec")
            exec(code, namespace)
        else:
            assert block.kind == "bash", f"{path.name}:{block.line}: {block.kind} needs a `file:`"
            if extras := {extra for line in block.text.splitlines() for extra in extras_named(line)}:
                hiding = folder / "hidden"
                hide_modules(hiding, modules_without(extras))
                environment["PYTHONPATH"] = str(hiding)
            _run_bash(block, path, folder, environment)
        count += 1
    return count


def _run_bash(block: Block, path: Path, folder: Path, environment: dict[str, str]) -> None:
    lines = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith(SET_UP):
            check_set_up(line)
        elif line.startswith("anthrotap ") and "run with" in block.about:
            command, hash_, comment = line.partition(" #")
            lines.append(f"{command} {block.about['run with']}{hash_}{comment}")
        else:
            lines.append(line)
    path_variable = f"{sysconfig.get_path('scripts')}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        cwd=folder,
        env={**environment, "PATH": path_variable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, f"{path.name}:{block.line}:\n{block.text}\n{done.stdout}\n{done.stderr}"


def check_set_up(line: str) -> None:
    """Check that what a line of set-up names exists: extras, targets of make, files."""
    arguments = shlex.split(line, comments=True)
    if arguments[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in arguments[1:] if "=" not in word} <= set(targets), line
    if arguments[0] == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert extras_named(line) <= set(project["optional-dependencies"]), line
        if "--constraint" in arguments:
            assert (ROOT / arguments[arguments.index("--constraint") + 1]).is_file(), line


def extras_named(line: str) -> set[str]:
    """Extras of this package that a line of pip asks for."""
    if not line.startswith("pip install "):
        return set()
    arguments = shlex.split(line, comments=True)
    return {extra for word in arguments for found in re.findall(r"\[(.+?)\]", word) for extra in found.split(",")}


def modules_without(extras: set[str]) -> list[str]:
    """Modules that are installed here, and that this package with these extras would not bring."""
    provided: dict[str, set[str]] = {}

    def bring(package: str, asked: frozenset[str]) -> None:
        name = canonicalize_name(package)
        if name in provided and asked <= provided[name]:
            return
        provided.setdefault(name, set()).update(asked)
        try:
            lines = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:
            return
        for line in lines:
            wanted = Requirement(line)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in (*asked, "")):
                bring(wanted.name, frozenset(wanted.extras))

    for package in ("pip", "setuptools"):
        bring(package, frozenset())
    bring("anthrotap", frozenset(extras))
    owners = metadata.packages_distributions()
    return sorted(
        module for module, names in owners.items() if not {canonicalize_name(name) for name in names} & provided.keys()
    )


def hide_modules(folder: Path, modules: list[str]) -> None:
    """Python with this folder in PYTHONPATH does not find the modules."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(
        f"import sys\n\nHIDDEN = frozenset({modules!r})\n\n\n"
        "class Without:\n"
        "    def __init__(self, finder):\n"
        "        self.finder = finder\n\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        hidden = name.partition('.')[0] in HIDDEN\n"
        "        return None if hidden else self.finder.find_spec(name, path, target)\n\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(self.finder, name)\n\n\n"
        "sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]\n"
    )
