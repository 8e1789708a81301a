"""Reading meshes of `.obj` and `.ply` files: vertices and triangles, and nothing else of them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshInput

PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"), **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"), **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"), **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"), **dict.fromkeys(("double", "float64"), "f8"),
}  # fmt: skip
MAX_HEADER = 1 << 16


def read_obj(source: MeshInput) -> tuple[np.ndarray, np.ndarray | None]:
    """Return vertices [V, 3] float64 and triangles [F, 3] int64 (None without any) of a Wavefront file.

    Polygons become fans of triangles. Lines of other kinds are skipped.

    Raises:
        MeshFileError: it is no such file.
    """
    vertices: list[list[str]] = []
    faces: list[tuple[int, int, int]] = []
    try:
        with source.path.open(encoding="utf-8") as lines:
            for line in lines:
                kind, *words = line.split() or [""]
                if kind == "v":
                    vertices.append(words[:3])
                elif kind == "f":
                    # VERTEX/TEXTURE/NORMAL; numbers from 1, or back from the end if negative.
                    corners = [int(word.partition("/")[0]) for word in words]
                    corners = [corner - 1 if corner > 0 else len(vertices) + corner for corner in corners]
                    faces.extend((corners[0], corners[i], corners[i + 1]) for i in range(1, len(corners) - 1))
        points = np.array(vertices, np.float64).reshape(-1, 3)
    except (ValueError, UnicodeDecodeError) as error:
        raise source.error("it is no .obj of a mesh, or a damaged one") from error
    if not len(points):
        raise source.error("it is no .obj of a mesh: it has no vertex")
    return points, np.array(faces, np.int64) if faces else None


def read_ply(source: MeshInput) -> tuple[np.ndarray, np.ndarray | None]:
    """Return vertices [V, 3] float64 and triangles [F, 3] int64 (None without any) of a PLY file.

    Polygons become fans of triangles. Other elements and properties are skipped.

    Raises:
        MeshFileError: it is no such file.
    """
    content = source.path.read_bytes()
    end = re.search(rb"end_header\r?\n", content[:MAX_HEADER])
    if not content.startswith(b"ply") or not end:
        raise source.error("it is no .ply of a mesh")
    try:
        form, counts, fields = _ply_header(content[: end.start()].decode("ascii").splitlines())
        if form == "ascii":
            elements = _ascii_elements(content[end.end() :], counts, fields)
        else:
            order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
            elements = _binary_elements(content, end.end(), counts, fields, order)
        vertices = np.stack([np.asarray(elements["vertex"][axis], np.float64) for axis in "xyz"], axis=1)
        corners = elements.get("face", {})
        polygons: Any = next((corners[name] for name in ("vertex_indices", "vertex_index") if name in corners), [])
        faces = [(each[0], each[i], each[i + 1]) for each in polygons for i in range(1, len(each) - 1)]
    except (ValueError, LookupError, TypeError, UnicodeDecodeError) as error:
        raise source.error("it is no .ply of a mesh, or a damaged one") from error
    return vertices, np.array(faces, np.int64) if faces else None


Fields = dict[str, list[tuple[str, str]]]
Elements = dict[str, dict[str, Any]]


def _ply_header(lines: list[str]) -> tuple[str, dict[str, int], Fields]:
    """Return the form, and of each element its count and its properties: name and kind, of lists "count item"."""
    form, counts, fields, element = "", dict[str, int](), Fields(), ""
    for line in lines:
        words = line.split()
        if words[:1] == ["format"]:
            form = words[1]
        elif words[:1] == ["element"]:
            element = words[1]
            counts[element], fields[element] = int(words[2]), []
        elif words[:2] == ["property", "list"]:
            fields[element].append((words[4], f"{PLY_TYPES[words[2]]} {PLY_TYPES[words[3]]}"))
        elif words[:1] == ["property"]:
            fields[element].append((words[2], PLY_TYPES[words[1]]))
    return form, counts, fields


def _ascii_elements(body: bytes, counts: dict[str, int], fields: Fields) -> Elements:
    """Return the values of each property of each element, a row for each element of it."""
    rows = (line.split() for line in body.splitlines() if line.strip())
    elements: Elements = {}
    for element, count in counts.items():
        values: dict[str, list[Any]] = {name: [] for name, _ in fields[element]}
        for _ in range(count):
            words = iter(next(rows, []))
            for name, kind in fields[element]:
                length = int(next(words, b"")) if " " in kind else 1
                number = float if kind[-2] == "f" else int
                own = [number(next(words, b"")) for _ in range(length)]
                values[name].append(own if " " in kind else own[0])
        elements[element] = dict(values)
    return elements


def _binary_elements(content: bytes, at: int, counts: dict[str, int], fields: Fields, order: str) -> Elements:
    """Return what `_ascii_elements` returns; `at`: where the body begins, `order`: of bytes, as numpy says it."""
    elements: Elements = {}
    for element, count in counts.items():
        # All rows have lists as long as those of the first one, as a rule; then they are one array.
        row = _row_of(content, at, fields[element], order) if count else {}
        kinds = [
            kind
            for name, own in fields[element]
            for kind in (
                [(f"{name} count", order + own.split()[0]), (name, order + own.split()[1], len(row[name]))]
                if " " in own and count
                else [(name, order + own)] * (" " not in own)
            )
        ]
        dtype = np.dtype(kinds)
        if at + count * dtype.itemsize <= len(content):
            table = np.frombuffer(content, dtype, count, at)
            lists = [name for name, own in fields[element] if " " in own and count]
            if all((table[f"{name} count"] == len(row[name])).all() for name in lists):
                elements[element] = {name: table[name] for name, own in fields[element] if count or " " not in own}
                at += count * dtype.itemsize
                continue
        values: dict[str, list[Any]] = {name: [] for name, _ in fields[element]}
        for _ in range(count):
            row = _row_of(content, at, fields[element], order)
            for name, value in row.items():
                values[name].append(value)
            at += sum(
                np.asarray(row[name]).nbytes + (np.dtype(own.split()[0]).itemsize if " " in own else 0)
                for name, own in fields[element]
            )
        elements[element] = dict(values)
    return elements


def _row_of(content: bytes, at: int, fields: list[tuple[str, str]], order: str) -> dict[str, Any]:
    """Return the properties of one row: a number, or an array of a list."""
    row: dict[str, Any] = {}
    for name, own in fields:
        *count_kind, kind = own.split()
        length = 1
        for each in count_kind:
            length = int(np.frombuffer(content, order + each, 1, at)[0])
            at += np.dtype(each).itemsize
        if length < 0:
            raise ValueError("a list of negative length")
        found = np.frombuffer(content, order + kind, length, at) if length else np.zeros(0, kind)
        at += found.nbytes
        row[name] = found if count_kind else found[0]
    return row
