"""Render moving meshes in a room into frames, with the exact position of every surface point.

`render_scene` renders clothed people; `objects.render_objects` renders objects by the same context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from anthrotap_builder.bodies import Body, load_body
from benchmarks.synthetic import raster
from benchmarks.synthetic.clothing import Clothing, clothe, noise_cube
from benchmarks.synthetic.ground_truth import GroundTruth
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.room import Furniture, Room

# Seconds that a motion has before the first and after the last frame.
LEAD = 1.0
SHADOW_SIDE = 1024
# Offsets of a frame's samples in a pixel: a rotated grid.
JITTER = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])

# Pixels of camera blur below which the room is rendered once a frame.
MAX_SHARP_BLUR = 0.7
# Meters from the camera to the back wall, about.
ROOM_DEPTH = 5.0
GRAIN_MARGIN = 97
# Display levels (gamma 2.2, rounded when cut off) of linear light.
DISPLAY = (0.5 + 255 * np.linspace(0, 1, 8192) ** (1 / 2.2)).astype(np.float32)


@dataclass(frozen=True)
class Actor:
    """A person of a scene: motion, body shape [S] and clothing."""

    motion: Motion
    shape: np.ndarray
    clothing: Clothing
    seed: int = 0


@dataclass(frozen=True)
class CameraPath:
    """The camera over T frames, world meters (z up), radians.

    Attributes:
        position: [T, 3] float64.
        angles: [T, 3] float64: pan to the right of +y, tilt up, roll.
        focal: [T] float64, pixels.
    """

    position: np.ndarray
    angles: np.ndarray
    focal: np.ndarray

    def rotations(self) -> np.ndarray:
        """[T, 3, 3] world to camera; rows are the camera's right, down and forward."""
        pan, tilt, roll = self.angles.T
        zero = np.zeros_like(pan)
        forward = np.stack([np.sin(pan) * np.cos(tilt), np.cos(pan) * np.cos(tilt), np.sin(tilt)], axis=1)
        right = np.stack([np.cos(pan), -np.sin(pan), zero], axis=1)
        down = np.cross(forward, right)
        cosine, sine = np.cos(roll)[:, None], np.sin(roll)[:, None]
        return np.stack([cosine * right + sine * down, cosine * down - sine * right, forward], axis=1)


@dataclass(frozen=True)
class Scene:
    """What a clip shows, and how it is filmed.

    Attributes:
        actors, room, furniture: what is in the scene.
        camera: its T frames are the clip's.
        fps: frames a second.
        shutter: fraction of a frame's time that the shutter is open, which gives motion blur; 0 for none.
        noise: standard deviation of the sensor's noise, of 255 levels.
        seed: of the noise.
        height, width: pixels.
    """

    actors: list[Actor]
    room: Room
    camera: CameraPath
    furniture: list[Furniture] = field(default_factory=list)
    fps: float = 24.0
    shutter: float = 0.15
    noise: float = 1.5
    seed: int = 0
    height: int = 480
    width: int = 854

    @property
    def num_frames(self) -> int:
        return len(self.camera.focal)


@dataclass(frozen=True)
class RenderedClip:
    """Frames [T, H, W, 3] uint8 RGB at `fps`, and their ground truth."""

    frames: np.ndarray
    fps: float
    truth: GroundTruth


def render_scene(scene: Scene, threads: int = 2, on_frame: Callable[[int], None] | None = None) -> RenderedClip:
    """Render all frames of a scene. The result depends on the scene alone.

    Args:
        scene: what to render.
        threads: frames rendered at once.
        on_frame: called with the number of each rendered frame.
    """
    return PeopleContext(scene, load_body("anny")).render(threads, on_frame)


@dataclass(frozen=True)
class MeshPart:
    """A mesh of a scene with its own tables; `RenderContext` joins the parts and shifts their indices.

    Attributes:
        faces: [F, 3] int32.
        pattern: [V, 3], rest positions in which textures live.
        face_material: [F, 2] int, rows of `materials`: where the border below is positive, and elsewhere.
        face_border: [F, 3] float32, signed distance of each corner to the line between two materials.
        materials: [M, raster.MATERIAL_SIZE] float32.
        decals: pictures [side, side, 4] float32 that materials refer to, linear color and opacity.
        paints: [P, 10] float32, ellipsoids of color that materials refer to.
    """

    faces: np.ndarray
    pattern: np.ndarray
    face_material: np.ndarray
    face_border: np.ndarray
    materials: np.ndarray
    decals: Sequence[np.ndarray] = ()
    paints: np.ndarray = field(default_factory=lambda: np.zeros((0, 10), np.float32))


class RenderContext(ABC):
    """A scene prepared for rendering, all meshes joined into one.

    Args:
        scene: what to render.
        movers: a mesh for each person or object that moves. The furniture follows them.
    """

    def __init__(self, scene: Scene, movers: Sequence[MeshPart]) -> None:
        self.scene = scene
        self.rotations = scene.camera.rotations()
        self.still = np.concatenate([np.zeros((0, 3)), *(piece.vertices for piece in scene.furniture)])
        self.mover_faces = [part.faces for part in movers]
        self.mover_sizes = [len(part.pattern) for part in movers]
        furniture = [
            MeshPart(
                piece.faces,
                piece.vertices,
                piece.face_material[:, None].repeat(2, 1),
                np.ones((len(piece.faces), 3), np.float32),
                piece.materials,
            )
            for piece in scene.furniture
        ]
        faces, face_material, materials = [], [], []
        decals: list[np.ndarray] = []
        first_vertex = first_material = first_paint = 0
        for part in (*movers, *furniture):
            rows = part.materials.copy()
            rows[:, [raster.PAINT_FIRST, raster.PAINT_LAST]] += first_paint
            rows[rows[:, raster.DECAL] >= 0, raster.DECAL] += len(decals)
            faces.append(part.faces + first_vertex)
            face_material.append(part.face_material + first_material)
            materials.append(rows)
            decals.extend(part.decals)
            first_vertex += len(part.pattern)
            first_material += len(rows)
            first_paint += len(part.paints)
        parts = [*movers, *furniture]
        self.faces = np.concatenate(faces).astype(np.int32)
        self.face_material = np.concatenate(face_material).astype(np.int32)
        self.face_border = np.concatenate([part.face_border for part in parts])
        self.materials = np.concatenate(materials).astype(np.float32)
        self.patterns = np.concatenate([part.pattern.astype(np.float32) for part in parts])
        self.paints = np.concatenate([part.paints for part in parts])
        self.decals = np.stack(decals) if decals else np.zeros((1, 1, 1, 4), np.float32)

        # One field of sensor noise; each frame takes another cut of it.
        rng = np.random.default_rng(scene.seed)
        size = (scene.height + GRAIN_MARGIN, scene.width + GRAIN_MARGIN)
        common, each = (
            rng.standard_normal((*size, 1), np.float32),
            rng.standard_normal((*size, 3), np.float32),
        )
        self.grain = common + 0.5 * each

        key = scene.room.light
        right = np.cross([0.0, 0, 1], key)
        right /= np.linalg.norm(right)
        self.light_axes = np.stack([right, np.cross(key, right), -key])

    @abstractmethod
    def mover_vertices(self, seconds: float) -> list[np.ndarray]:
        """Return the vertices [V, 3] float64 of each mover in the world at a time."""

    @abstractmethod
    def contact_shadows(self, seconds: float) -> np.ndarray:
        """Return [B, 4] soft shadows on the floor: x, y, radius, strength."""

    def vertices(self, seconds: float) -> np.ndarray:
        """[V, 3] float64, everything in the world at a time."""
        return np.concatenate([*self.mover_vertices(seconds), self.still])

    def render(self, threads: int = 2, on_frame: Callable[[int], None] | None = None) -> RenderedClip:
        """Render all frames, `threads` at once; `on_frame` is called with the number of each."""
        scene = self.scene
        frames = np.empty((scene.num_frames, scene.height, scene.width, 3), np.uint8)

        def draw(t: int) -> None:
            frames[t] = self.draw(t)
            if on_frame:
                on_frame(t)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(draw, range(scene.num_frames)))
        return RenderedClip(frames, scene.fps, self.truth())

    def draw(self, t: int) -> np.ndarray:
        """Render one frame, [H, W, 3] uint8."""
        scene, room = self.scene, self.scene.room
        height, width = scene.height, scene.width
        middle = t / scene.fps
        shadow = self._shadow(self.vertices(middle))
        shadows = self.contact_shadows(middle)
        light = (room.light, room.ambient, room.key)
        surface = (
            *(self.materials, self.face_material, self.face_border),
            *(noise_cube(), self.decals, self.paints),
        )
        image = np.zeros((height, width, 3), np.float32)
        backdrop = np.empty_like(image)
        inverse_depth = np.empty((height, width), np.float32)
        index = np.empty((height, width), np.int32)
        corners = np.empty((len(self.patterns), 3))
        normals = np.empty((len(self.patterns), 3))
        count = 4 if scene.shutter <= 0.25 else 8
        blurred = self._camera_blur(t) > MAX_SHARP_BLUR
        # Motion blur and antialiasing: the mean of several moments, each shifted within a pixel.
        for sample in range(count):
            # Frames from the middle of the exposure.
            open_for = scene.shutter * ((sample + 0.5) / count - 0.5)
            view = self._view(t + open_for)
            rotation, position, focal = view
            vertices = self.vertices(middle + open_for / scene.fps)
            jitter = JITTER[sample % 4]
            if blurred or sample == 0:
                box = (room.low, room.high, room.texels, room.levels, room.sizes)
                raster.draw_room(backdrop, view if blurred else self._view(t), box, light, shadows, shadow)
            raster.project(vertices, rotation, position, focal, width / 2 - jitter[0], height / 2 - jitter[1], corners)
            raster.rasterize(corners, self.faces, inverse_depth, index)
            raster.vertex_normals(vertices, self.faces, normals)
            mesh = (corners, self.faces, vertices, normals, self.patterns)
            raster.shade(image, backdrop, index, mesh, surface, position, light, shadow)
        display = DISPLAY[(image * (len(DISPLAY) - 1) / count).clip(0, len(DISPLAY) - 1).astype(np.int32)]
        y, x = np.random.default_rng([scene.seed, t]).integers(0, GRAIN_MARGIN, 2)
        display += scene.noise * self.grain[y : y + height, x : x + width]
        return display.clip(0, 255).astype(np.uint8)

    def _camera_blur(self, t: int) -> float:
        """Return how far the camera's own motion blurs the room in a frame, pixels, about."""
        steps = self._view(t - self.scene.shutter / 2), self._view(t + self.scene.shutter / 2)
        (turn, position, focal), (last_turn, last_position, last_focal) = steps
        far = position + turn[2] * ROOM_DEPTH + turn[0] * ROOM_DEPTH / 3
        first, last = turn @ (far - position), last_turn @ (far - last_position)
        return float(np.abs(first[:2] / first[2] * focal - last[:2] / last[2] * last_focal).max())

    def _view(self, frame: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Return rotation, position and focal length of the camera at a time between frames."""
        camera = self.scene.camera
        steps = np.arange(len(camera.focal))
        frame = float(np.clip(frame, 0, len(steps) - 1))
        position = np.array([np.interp(frame, steps, camera.position[:, a]) for a in range(3)])
        angles = np.array([[np.interp(frame, steps, camera.angles[:, a]) for a in range(3)]])
        focal = float(np.interp(frame, steps, camera.focal))
        return CameraPath(position[None], angles, np.array([focal])).rotations()[0], position, focal

    def _shadow(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Return the key light's depth map, its axes, its corner and pixels a meter."""
        flat = vertices @ self.light_axes[:2].T
        low, high = flat.min(0) - 0.1, flat.max(0) + 0.1
        scale = (SHADOW_SIDE - 12) / max((high - low).max(), 2.5)
        low = (low + high) / 2 - SHADOW_SIDE / 2 / scale
        shadow_map = np.empty((SHADOW_SIDE, SHADOW_SIDE), np.float32)
        raster.light_depths(vertices, self.faces, self.light_axes, low, scale, shadow_map)
        return shadow_map, self.light_axes, low, scale

    def truth(self) -> GroundTruth:
        """Return where all vertices are in each frame, in camera coordinates."""
        scene = self.scene
        ends = np.cumsum(self.mover_sizes, dtype=int)
        camera_vertices = np.empty((scene.num_frames, len(self.patterns), 3), np.float32)
        for t in range(scene.num_frames):
            camera_vertices[t] = (self.vertices(t / scene.fps) - scene.camera.position[t]) @ self.rotations[t].T
        *movers, occluders = np.split(camera_vertices, ends, axis=1)
        first_vertex = ends[-1] if len(ends) else 0
        first_face = sum(len(faces) for faces in self.mover_faces)
        return GroundTruth(
            people=[np.ascontiguousarray(vertices) for vertices in movers],
            faces=self.mover_faces,
            occluders=np.ascontiguousarray(occluders),
            occluder_faces=self.faces[first_face:] - np.int32(first_vertex),
            focal=scene.camera.focal,
            height=scene.height,
            width=scene.width,
        )


class PeopleContext(RenderContext):
    """A scene of clothed people."""

    def __init__(self, scene: Scene, body: Body) -> None:
        self.body = body
        self.clothed = [clothe(body, actor.shape, actor.clothing, actor.seed) for actor in scene.actors]
        self.poses = [actor.motion.parameters(body, actor.shape).posed(body) for actor in scene.actors]
        super().__init__(
            scene,
            [
                MeshPart(
                    body.faces,
                    clothed.pattern,
                    clothed.face_material,
                    clothed.face_border,
                    clothed.materials,
                    list(clothed.decals),
                    clothed.paints,
                )
                for clothed in self.clothed
            ],
        )

    def mover_vertices(self, seconds: float) -> list[np.ndarray]:
        """Return the skinned vertices of each person."""
        people = []
        for actor, clothed, pose in zip(self.scene.actors, self.clothed, self.poses, strict=True):
            sample = (seconds + LEAD) * actor.motion.rate
            low = min(int(sample), len(pose.positions) - 2)
            weight = sample - low
            joints = self.body.joints + np.tensordot(actor.shape, self.body.joint_directions, 1)
            # Motions are sampled so finely that rotation matrices may be mixed linearly.
            rotations = pose.rotations[low] * (1 - weight) + pose.rotations[low + 1] * weight
            positions = pose.positions[low] * (1 - weight) + pose.positions[low + 1] * weight
            offsets = positions - np.einsum("jab,jb->ja", rotations, joints)
            rest = clothed.rest
            if actor.clothing.slip:
                rest = rest + (
                    np.sin(2 * np.pi * 1.1 * seconds + actor.seed) * clothed.slide[0]
                    + np.cos(2 * np.pi * 0.7 * seconds + actor.seed) * clothed.slide[1]
                )
            transforms = np.concatenate([rotations, offsets[..., None]], axis=2)
            vertices = np.empty_like(rest)
            raster.skin(rest, clothed.joint_index, clothed.joint_weight, transforms, vertices)
            people.append(vertices)
        return people

    def contact_shadows(self, seconds: float) -> np.ndarray:
        """Return the shadows under feet and hips."""
        rows = [np.zeros((0, 4))]
        for actor, pose in zip(self.scene.actors, self.poses, strict=True):
            positions = pose.positions[round((seconds + LEAD) * actor.motion.rate)]
            for joint, radius, strength in ((16, 0.16, 0.5), (19, 0.16, 0.5), (0, 0.45, 0.25)):
                x, y, z = positions[joint]
                above = max(z - 0.09, 0.0)
                rows.append(np.array([[x, y - 0.04, radius + above / 3, strength / (1 + 2.5 * above)]]))
        return np.concatenate(rows)
