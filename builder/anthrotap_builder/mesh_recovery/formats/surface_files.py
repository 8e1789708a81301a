"""Reading meshes of `.obj` and `.ply` files: vertices and triangles, and nothing else of them."""

from __future__ import annotations

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

    Raises:
        MeshFileError: it is no such file, or has polygons that are no triangles.
    """
    content = source.path.read_bytes()
    header, end, body = content[:MAX_HEADER].partition(b"end_header\n")
    if not content.startswith(b"ply") or not end:
        raise source.error("it is no .ply of a mesh")
    body = content[len(header) + len(end) :]
    try:
        form, counts, fields = _ply_header(header.decode("ascii").splitlines())
        if form == "ascii":
            return _ascii_ply(body, counts, fields)
        order = {"binary_little_endian": "<", "binary_big_endian": ">"}[form]
        vertex = np.dtype([(name, order + kind) for name, kind in fields["vertex"]])
        points = np.frombuffer(body, vertex, counts["vertex"])
        vertices = np.stack([points[axis] for axis in "xyz"], axis=1).astype(np.float64)
        if not counts.get("face"):
            return vertices, None
        (_, kinds) = fields["face"][0]
        count_kind, index_kind = kinds.split()
        face = np.dtype([("count", order + count_kind), ("corners", order + index_kind, 3)])
        rows = np.frombuffer(body, face, counts["face"], vertex.itemsize * counts["vertex"])
        if (rows["count"] != 3).any():
            raise source.error("it has polygons that are no triangles")
        return vertices, rows["corners"].astype(np.int64)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise source.error("it is no .ply of a mesh, or a damaged one") from error


def _ply_header(lines: list[str]) -> tuple[str, dict[str, int], dict[str, list[tuple[str, str]]]]:
    """Return the form, and of each element its count and its properties: name and kind, of lists "count item"."""
    form, counts, fields, element = "", dict[str, int](), dict[str, list[tuple[str, str]]](), ""
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


def _ascii_ply(
    body: bytes, counts: dict[str, int], fields: dict[str, list[tuple[str, str]]]
) -> tuple[np.ndarray, np.ndarray | None]:
    rows = [line.split() for line in body.splitlines()]
    columns = [[name for name, _ in fields["vertex"]].index(axis) for axis in "xyz"]
    count = counts["vertex"]
    vertices = np.array([[float(row[column]) for column in columns] for row in rows[:count]])
    faces = np.array([row[1:4] for row in rows[count : count + counts.get("face", 0)]], np.int64)
    return vertices, faces if len(faces) else None
