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
        faces = _triangles(polygons)
    except (ValueError, LookupError, TypeError, UnicodeDecodeError) as error:
        raise source.error("it is no .ply of a mesh, or a damaged one") from error
    return vertices, faces if len(faces) else None


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
        own = fields[element]
        # Lists have one length as a rule; then all rows are one array.
        alike = _alike_rows(content, at, count, own, order) if count else None
        elements[element], at = alike or _single_rows(content, at, count, own, order)
    return elements


def _alike_rows(
    content: bytes, at: int, count: int, fields: list[tuple[str, str]], order: str
) -> tuple[dict[str, Any], int] | None:
    """Return each property of all rows as an array, and where they end; None if lists differ in length."""
    first, _ = _row_at(content, at, fields, order)
    columns: list[Any] = []
    for name, kinds in fields:
        *length_kind, kind = kinds.split()
        columns += [(f"{name} length", order + each) for each in length_kind]
        columns.append((name, order + kind, np.shape(first[name])))
    dtype = np.dtype(columns)
    end = at + count * dtype.itemsize
    if end > len(content):
        return None
    table = np.frombuffer(content, dtype, count, at)
    lists = [name for name, kinds in fields if " " in kinds]
    if any((table[f"{name} length"] != len(first[name])).any() for name in lists):
        return None
    return {name: table[name] for name, _ in fields}, end


def _single_rows(
    content: bytes, at: int, count: int, fields: list[tuple[str, str]], order: str
) -> tuple[dict[str, Any], int]:
    """Return the values of each property, and where the rows end."""
    values: dict[str, list[Any]] = {name: [] for name, _ in fields}
    for _ in range(count):
        row, at = _row_at(content, at, fields, order)
        for name, value in row.items():
            values[name].append(value)
    return dict(values), at


def _row_at(content: bytes, at: int, fields: list[tuple[str, str]], order: str) -> tuple[dict[str, Any], int]:
    """Return the properties of one row, a number or an array of a list each, and where the row ends."""
    row: dict[str, Any] = {}
    for name, kinds in fields:
        *length_kind, kind = kinds.split()
        length = 1
        for each in length_kind:
            length = int(np.frombuffer(content, order + each, 1, at)[0])
            at += np.dtype(each).itemsize
        if length < 0:
            raise ValueError("a list of negative length")
        found = np.frombuffer(content, order + kind, length, at) if length else np.zeros(0, kind)
        at += found.nbytes
        row[name] = found if length_kind else found[0]
    return row, at


def _triangles(polygons: Any) -> np.ndarray:
    """Return the fans of triangles [F, 3] int64 that polygons are, in their order."""
    if isinstance(polygons, np.ndarray) and polygons.shape[1] == 3:
        return polygons.astype(np.int64)
    fans = [(each[0], each[i], each[i + 1]) for each in polygons for i in range(1, len(each) - 1)]
    return np.array(fans, np.int64)
