"""The ground truth of a rendered clip: which surface point a pixel shows, and where each one is."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numba import njit

from anthrotap_builder.geometry.camera import Camera

# A surface occludes a point only if it is nearer by this fraction of the depth, so that a point's own surface does
# not.
DEPTH_MARGIN = 1e-6


@dataclass(frozen=True)
class GroundTruth:
    """Where everything of a clip is, in camera coordinates (x right, y down, z forward), meters.

    Attributes:
        people: one entry a person, [T, V, 3] float32, exactly the vertices that were rendered.
        faces: one entry a person, [F, 3] int32.
        occluders: [T, U, 3] float32, furniture: it has no tracks of its own, but it occludes.
        occluder_faces: [G, 3] int32.
        focal: [T] float64, pixels; the principal point is the middle of the frame.
        height, width: of a frame, pixels.
    """

    people: list[np.ndarray]
    faces: list[np.ndarray]
    occluders: np.ndarray
    occluder_faces: np.ndarray
    focal: np.ndarray
    height: int
    width: int

    @property
    def num_frames(self) -> int:
        return len(self.focal)

    def camera(self, t: int) -> Camera:
        return Camera(float(self.focal[t]), self.width, self.height)

    def surface_point_under(self, t: int, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find what the frame shows at raster positions.

        Args:
            t: frame.
            xy: [K, 2] float, raster pixels.

        Returns:
            person: [K] int64, whose body it is; -1 where there is none (background, furniture, out of frame, NaN).
            face: [K] int64, triangle of that person's mesh; 0 where there is none.
            barycentric: [K, 3] float64, the position on it (perspective-correct); zeros where there is none.
        """
        xy = np.asarray(xy, np.float64).reshape(-1, 2)
        person = np.full(len(xy), -1)
        face = np.zeros(len(xy), np.int64)
        barycentric = np.zeros((len(xy), 3))
        camera = self.camera(t)
        inside = np.nonzero(camera.contains(xy))[0]
        rays = (xy[inside] - camera.center) / camera.focal
        owner, hit, weights, _ = self._first_hits(t, rays)
        person[inside], face[inside], barycentric[inside] = owner, hit, weights
        return person, face, barycentric

    def locate(
        self, t: int, person: np.ndarray, face: np.ndarray, barycentric: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find where surface points are in a frame.

        Args:
            t: frame.
            person, face: [K] int; barycentric: [K, 3], as `surface_point_under` gives them.

        Returns:
            xy: [K, 2] float64, raster pixels, visible or not; NaN behind the camera and for person -1.
            visible: [K] bool, in the frame and with nothing nearer on its ray: own body, others, furniture.
        """
        points = self.points(t, person, face, barycentric)
        camera = self.camera(t)
        xy = camera.project(points)
        inside = np.nonzero(camera.contains(xy))[0]
        visible = np.zeros(len(points), bool)
        rays = points[inside, :2] / points[inside, 2:]
        *_, depth = self._first_hits(t, rays)
        visible[inside] = depth >= points[inside, 2] * (1 - DEPTH_MARGIN)
        return xy, visible

    def points(self, t: int, person: np.ndarray, face: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """[K, 3] float64 camera coordinates of surface points in frame t; NaN for person -1."""
        out = np.full((len(person), 3), np.nan)
        for index, (vertices, faces) in enumerate(zip(self.people, self.faces, strict=True)):
            own = np.asarray(person) == index
            corners = vertices[t][faces[np.asarray(face)[own]]].astype(np.float64)
            out[own] = np.einsum("kc,kcx->kx", np.asarray(barycentric)[own], corners)
        return out

    def _first_hits(self, t: int, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Find the first surface along rays (x/z, y/z) [K, 2]: person (-1: none), face, barycentric, depth."""
        depth = np.full(len(rays), np.inf)
        person = np.full(len(rays), -1)
        face = np.zeros(len(rays), np.int64)
        barycentric = np.zeros((len(rays), 3))
        order = np.argsort(rays[:, 1], kind="stable")
        rays = np.ascontiguousarray(rays[order])
        meshes = [*zip(self.people, self.faces, strict=True), (self.occluders, self.occluder_faces)]
        for index, (vertices, faces) in enumerate(meshes):
            owner = index if index < len(self.people) else -1
            _cast(vertices[t].astype(np.float64), faces, rays, owner, depth, person, face, barycentric)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return person[back], face[back], barycentric[back], depth[back]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz` file."""
        arrays: dict[str, np.ndarray] = {}
        for i, (vertices, faces) in enumerate(zip(self.people, self.faces, strict=True)):
            arrays[f"vertices_{i}"], arrays[f"faces_{i}"] = vertices, faces
        with open(path, "wb") as file:
            np.savez(
                file,
                num_people=np.array(len(self.people)),
                occluders=self.occluders,
                occluder_faces=self.occluder_faces,
                focal=self.focal,
                size=np.array([self.height, self.width]),
                **arrays,  # type: ignore[arg-type]
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GroundTruth:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            count = int(archive["num_people"])
            height, width = archive["size"].tolist()
            return cls(
                people=[archive[f"vertices_{i}"] for i in range(count)],
                faces=[archive[f"faces_{i}"] for i in range(count)],
                occluders=archive["occluders"],
                occluder_faces=archive["occluder_faces"],
                focal=archive["focal"],
                height=height,
                width=width,
            )


@njit(cache=True, nogil=True)
def _cast(vertices, faces, rays, owner, depth, person, face, barycentric):
    """Update each ray's first hit by one mesh, in float64. `rays` are sorted by y.

    A ray (u, v, 1) meets the plane of a triangle where the three signed volumes of ray and edge agree in sign
    (Moeller and Trumbore 1997, in the form of scalar triple products); these are the weights in space.
    Triangles with a corner at or behind the camera plane are skipped.
    """
    for k in range(len(faces)):
        a, b, c = vertices[faces[k, 0]], vertices[faces[k, 1]], vertices[faces[k, 2]]
        if a[2] <= 0 or b[2] <= 0 or c[2] <= 0:
            continue
        top = min(a[1] / a[2], b[1] / b[2], c[1] / c[2])
        bottom = max(a[1] / a[2], b[1] / b[2], c[1] / c[2])
        left = min(a[0] / a[2], b[0] / b[2], c[0] / c[2])
        right = max(a[0] / a[2], b[0] / b[2], c[0] / c[2])
        i = np.searchsorted(rays[:, 1], top - 1e-9)
        while i < len(rays) and rays[i, 1] <= bottom + 1e-9:
            u, v = rays[i, 0], rays[i, 1]
            if left - 1e-9 <= u <= right + 1e-9:
                p = _volume(u, v, b, c)
                q = _volume(u, v, c, a)
                r = _volume(u, v, a, b)
                total = p + q + r
                if total != 0 and ((p >= 0 and q >= 0 and r >= 0) or (p <= 0 and q <= 0 and r <= 0)):
                    p, q, r = p / total, q / total, r / total
                    z = p * a[2] + q * b[2] + r * c[2]
                    if z < depth[i]:
                        depth[i] = z
                        person[i] = owner
                        face[i] = k if owner >= 0 else 0
                        barycentric[i, 0] = p if owner >= 0 else 0.0
                        barycentric[i, 1] = q if owner >= 0 else 0.0
                        barycentric[i, 2] = r if owner >= 0 else 0.0
            i += 1


@njit(cache=True, nogil=True)
def _volume(u, v, a, b):
    """(u, v, 1) . (a x b)."""
    return u * (a[1] * b[2] - a[2] * b[1]) + v * (a[2] * b[0] - a[0] * b[2]) + (a[0] * b[1] - a[1] * b[0])
