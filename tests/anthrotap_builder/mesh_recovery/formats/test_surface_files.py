"""PLY files as different programs write them."""

from pathlib import Path

import numpy as np
import pytest

from anthrotap_builder.mesh_recovery.formats.base import MeshInput, VideoFacts
from anthrotap_builder.mesh_recovery.formats.surface_files import read_ply

POINTS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 2]])
# A pyramid: its bottom is one polygon of four corners.
POLYGONS = [[0, 3, 2, 1], [0, 1, 4], [1, 2, 4]]
TRIANGLES = [[0, 3, 2], [0, 2, 1], [0, 1, 4], [1, 2, 4]]


def ply_of(form: str, newline: str, list_first: bool) -> bytes:
    """`list_first`: each vertex begins with a list of numbers, which is not wanted."""
    header = ["ply", f"format {form} 1.0", "element vertex 5"]
    header += ["property list uchar short tags"] * list_first
    header += [f"property float {axis}" for axis in "xyz"]
    header += ["element face 3", "property list uchar int vertex_indices", "end_header", ""]
    start = newline.join(header).encode()
    tags = [[7] * (row % 3) for row in range(5)]
    if form == "ascii":
        lines = [
            " ".join(map(str, [len(tag), *tag] * list_first + point.tolist()))
            for tag, point in zip(tags, POINTS, strict=True)
        ]
        lines += [" ".join(map(str, [len(polygon), *polygon])) for polygon in POLYGONS]
        return start + newline.join([*lines, ""]).encode()
    order = "<" if "little" in form else ">"
    body = b""
    for tag, point in zip(tags, POINTS, strict=True):
        if list_first:
            body += bytes([len(tag)]) + np.array(tag, order + "i2").tobytes()
        body += point.astype(order + "f4").tobytes()
    for polygon in POLYGONS:
        body += bytes([len(polygon)]) + np.array(polygon, order + "i4").tobytes()
    return start + body


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("list_first", [False, True])
def test_polygons_become_triangles_whatever_else_is_in_a_ply(tmp_path: Path, form, newline, list_first):
    path = tmp_path / "0.ply"
    path.write_bytes(ply_of(form, newline, list_first))
    vertices, faces = read_ply(MeshInput(path, VideoFacts("a", 8, 8, 1.0, 1)))
    np.testing.assert_array_equal(vertices, POINTS)
    assert faces is not None
    assert faces.tolist() == TRIANGLES
