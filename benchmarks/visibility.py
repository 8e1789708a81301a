"""How fast visibility is: CPU time against Open3D's ray caster and brute force, on posed Anny bodies.

    python -m benchmarks.visibility

Needs `make bench-env`; Open3D also wants the system's libusb-1.0-0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numba
import numpy as np
import open3d
from rich.console import Console
from rich.table import Table
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.geometry.surface import SurfacePoints
from anthrotap_builder.geometry.visibility import DEPTH_MARGIN, visible_points, visible_vertices

BARS = {"vertices": 0.3, "points": 0.15}
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Anny stands along +z; cameras have y down
TOUCHING = 1e-4  # Open3D's hits are float32: one this near the target, relative to its distance, is the target


def posed(body: Body, rng: np.random.Generator) -> np.ndarray:
    """[V, 3] float32: the body with its joints bent at random, turned at random, 2.5 to 5 m in front of the camera."""
    bend = Rotation.from_rotvec(rng.normal(0, 0.25, (body.num_joints, 3))).as_matrix()
    turn = Rotation.from_rotvec([0, rng.uniform(-np.pi, np.pi), 0]).as_matrix()
    rotations, positions = np.empty((body.num_joints, 3, 3)), np.empty((body.num_joints, 3))
    rotations[0], positions[0] = turn @ UPRIGHT, rng.uniform([-0.7, -0.2, 2.5], [0.7, 0.2, 5])
    for joint in range(1, body.num_joints):
        parent = body.parents[joint]
        rotations[joint] = rotations[parent] @ bend[joint]
        positions[joint] = positions[parent] + rotations[parent] @ (body.joints[joint] - body.joints[parent])
    shape = np.zeros(body.num_shapes)
    return body.pose_vertices(BodyPose(rotations[None], positions[None], shape))[0].astype(np.float32)


def open3d_visible(vertices: list[np.ndarray], faces: list[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """What one would run otherwise: build the scene, cast one ray a target ([K, 3] float32), on one thread."""
    scene = open3d.t.geometry.RaycastingScene(nthreads=1)
    for mesh_vertices, mesh_faces in zip(vertices, faces, strict=True):
        scene.add_triangles(open3d.core.Tensor(mesh_vertices), open3d.core.Tensor(mesh_faces.astype(np.uint32)))
    rays = np.concatenate([np.zeros_like(targets), targets], axis=1)
    return scene.cast_rays(open3d.core.Tensor(rays), nthreads=1)["t_hit"].numpy() > 1 - TOUCHING


@numba.njit(cache=True, error_model="numpy")
def brute_force(vertices, faces, targets, own_vertex, own_face):
    """Moller and Trumbore's test (JGT 1997) in float64, of every target against every triangle."""
    visible = np.ones(len(targets), np.bool_)
    for k in range(len(targets)):
        x, y, z = targets[k, 0], targets[k, 1], targets[k, 2]
        for f in range(len(faces)):
            i, j, m = faces[f, 0], faces[f, 1], faces[f, 2]
            if f == own_face[k] or i == own_vertex[k] or j == own_vertex[k] or m == own_vertex[k]:
                continue
            ax, ay, az = vertices[i, 0], vertices[i, 1], vertices[i, 2]
            bx, by, bz = vertices[j, 0] - ax, vertices[j, 1] - ay, vertices[j, 2] - az
            cx, cy, cz = vertices[m, 0] - ax, vertices[m, 1] - ay, vertices[m, 2] - az
            px, py, pz = y * cz - z * cy, z * cx - x * cz, x * cy - y * cx
            det = bx * px + by * py + bz * pz
            u = -(ax * px + ay * py + az * pz) / det
            if det == 0 or u < 0 or u > 1:
                continue
            qx, qy, qz = az * by - ay * bz, ax * bz - az * bx, ay * bx - ax * by
            v = (x * qx + y * qy + z * qz) / det
            t = (cx * qx + cy * qy + cz * qz) / det
            if v >= 0 and u + v <= 1 and 0 < t < 1 - DEPTH_MARGIN:
                visible[k] = False
                break
    return visible


def cpu_seconds(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """CPU time of this thread. The process's would include BLAS threads that still spin after posing the bodies
    (that doubled Open3D's figure); with nthreads=1 Open3D, too, works in the calling thread alone.
    """
    start = time.thread_time()
    result = work()
    return time.thread_time() - start, result


def measure(body: Body, people: int, what: str, points: SurfacePoints, runs: int, checked: int) -> list[str]:
    """One row of the table. Each run is a scene of its own; Open3D and ours take turns at going first."""
    seconds: dict[str, list[float]] = {"open3d": [], "ours": [], "brute": []}
    same_as_open3d, same_as_brute = [], []
    faces = [body.faces] * people
    for run in range(-1, runs):  # run -1 warms up
        rng = np.random.default_rng(1000 * people + run + 1)
        vertices = [posed(body, rng) for _ in range(people)]
        if what == "vertices":
            targets = np.concatenate(vertices).astype(np.float64)
            own_vertex, own_face = np.arange(len(targets)), np.full(len(targets), -1)
        else:
            targets = np.concatenate([points.positions(v.astype(np.float64), body.faces) for v in vertices])
            own_vertex = np.full(len(targets), -1)
            own_face = np.concatenate([points.face + person * len(body.faces) for person in range(people)])
        rays = targets.astype(np.float32)

        def ours(vertices: list[np.ndarray] = vertices) -> np.ndarray:
            if what == "vertices":
                return np.concatenate(visible_vertices(vertices, faces))
            return np.concatenate(visible_points(vertices, faces, [points] * people))

        def theirs(vertices: list[np.ndarray] = vertices, rays: np.ndarray = rays) -> np.ndarray:
            return open3d_visible(vertices, faces, rays)

        if run % 2:
            their_seconds, theirs_visible = cpu_seconds(theirs)
            our_seconds, visible = cpu_seconds(ours)
        else:
            our_seconds, visible = cpu_seconds(ours)
            their_seconds, theirs_visible = cpu_seconds(theirs)
        chosen = rng.choice(len(targets), min(checked, len(targets)), replace=False)
        joined = np.concatenate(vertices).astype(np.float64)
        all_faces = np.concatenate([body.faces + person * len(body.template) for person in range(people)])
        sample = joined, all_faces, targets[chosen], own_vertex[chosen], own_face[chosen]
        sample_seconds, brute_visible = cpu_seconds(partial(brute_force, *sample))
        brute_seconds = sample_seconds * len(targets) / len(chosen)
        if run >= 0:
            for name, value in (("open3d", their_seconds), ("ours", our_seconds), ("brute", brute_seconds)):
                seconds[name].append(value)
            same_as_open3d.append((visible == theirs_visible).mean())
            same_as_brute.append((visible[chosen] == brute_visible).sum())
    ratios = np.array(seconds["ours"]) / np.array(seconds["open3d"])
    ratio, bar = float(np.median(ratios)), BARS[what]
    return [
        f"{people}",
        f"{what} ({len(targets):,})",
        f"{np.median(seconds['ours']) * 1e3:.2f}",
        f"{np.median(seconds['open3d']) * 1e3:.1f}",
        f"{ratio:.3f} ({np.quantile(ratios, 0.1):.3f} to {np.quantile(ratios, 0.9):.3f})",
        f"{bar} {'met' if ratio <= bar else 'MISSED'}",
        f"{np.median(seconds['brute']) * 1e3:,.0f}",
        f"{sum(same_as_brute):,} of {len(chosen) * runs:,}",
        f"{np.mean(same_as_open3d):.3%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21, help="scenes a row")
    parser.add_argument("--checked", type=int, default=300, help="targets a scene given to brute force")
    parser.add_argument("--people", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--points", type=int, default=1024, help="surface points a person")
    options = parser.parse_args()

    body = load_body("anny")
    points = body.surface_points(options.points, seed=0)
    title = f"CPU ms, medians of {options.runs} scenes; {len(body.template):,} vertices a person"
    table = Table("people", "targets", "ours", "Open3D", "ratio (10-90 %)", "bar", title=title)
    for heading in ("brute force (scaled up)", "agree with brute force", "agree with Open3D (float32)"):
        table.add_column(heading)
    for what in BARS:
        for people in options.people:
            table.add_row(*measure(body, people, what, points, options.runs, options.checked))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
