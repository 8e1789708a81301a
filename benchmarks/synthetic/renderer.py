"""Renders dressed, moving bodies in a room into frames, with the exact truth of every surface point."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from anthrotap_builder.bodies import Body, load_body
from benchmarks.synthetic import raster
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.room import Furniture, Room
from benchmarks.synthetic.truth import Truth
from benchmarks.synthetic.wardrobe import Outfit, dress, noise_cube

LEAD = 1.0  # seconds that a motion has before the first and after the last frame
SHADOW_SIDE = 1024
# Where in a pixel the samples of a frame lie: a rotated grid.
JITTER = np.array([[-0.125, -0.375], [0.375, -0.125], [0.125, 0.375], [-0.375, 0.125]])

MAX_SHARP_BLUR = 0.7  # pixels; below it the room is drawn once a frame
ROOM_DEPTH = 5.0  # meters, about
GRAIN_MARGIN = 97
# Display levels (gamma 2.2, rounded when cut off) of linear light.
DISPLAY = (0.5 + 255 * np.linspace(0, 1, 8192) ** (1 / 2.2)).astype(np.float32)


@dataclass(frozen=True)
class Actor:
    """A person of a scene: what she does, how she is built (shape [S]) and what she wears."""

    motion: Motion
    shape: np.ndarray
    outfit: Outfit
    seed: int = 0


@dataclass(frozen=True)
class CameraPath:
    """The camera over T frames, world meters (z up), radians.

    Attributes:
        place: [T, 3] float64.
        angles: [T, 3] float64: pan to the right of +y, tilt up, roll.
        focal: [T] float64, pixels.
    """

    place: np.ndarray
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
    """All that a clip shows.

    Attributes:
        actors, room, furniture: who and what is there.
        camera: its T frames are the clip's.
        fps: frames a second.
        shutter: share of a frame's time that the shutter is open: motion blur; 0 for none.
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
    """frames [T, H, W, 3] uint8 RGB at `fps`, and their truth."""

    frames: np.ndarray
    fps: float
    truth: Truth


def render_scene(
    scene: Scene, threads: int = 2, on_frame: Callable[[int], None] | None = None
) -> RenderedClip:
    """Draws all frames of a scene. The result depends on the scene alone.

    Args:
        scene: what to draw.
        threads: frames drawn side by side.
        on_frame: is told the number of each frame as it is done.
    """
    stage = _Stage(scene, load_body("anny"))
    frames = np.empty((scene.num_frames, scene.height, scene.width, 3), np.uint8)

    def draw(t: int) -> None:
        frames[t] = stage.draw(t)
        if on_frame:
            on_frame(t)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(draw, range(scene.num_frames)))
    return RenderedClip(frames, scene.fps, stage.truth())


class _Stage:
    """A scene prepared for drawing: bodies dressed and posed, all meshes joined into one."""

    def __init__(self, scene: Scene, body: Body) -> None:
        self.scene, self.body = scene, body
        self.dressed = [dress(body, actor.shape, actor.outfit, actor.seed) for actor in scene.actors]
        self.poses = [actor.motion.parameters(body, actor.shape).posed(body) for actor in scene.actors]
        self.rotations = scene.camera.rotations()
        self.still = np.concatenate([np.zeros((0, 3)), *(piece.vertices for piece in scene.furniture)])

        faces, patterns, paints = [], [], []
        materials, face_material, face_border = [], [], []
        decals: list[np.ndarray] = []
        first_vertex = first_material = first_paint = 0
        for dressed in self.dressed:
            rows = dressed.materials.copy()
            rows[:, [raster.PAINT_FIRST, raster.PAINT_LAST]] += first_paint
            rows[rows[:, raster.DECAL] >= 0, raster.DECAL] += len(decals)
            faces.append(body.faces + first_vertex)
            face_material.append(dressed.face_material + first_material)
            face_border.append(dressed.face_border)
            materials.append(rows)
            patterns.append(dressed.pattern)
            paints.append(dressed.paints)
            decals.extend(dressed.decals)
            first_vertex += len(dressed.rest)
            first_material += len(rows)
            first_paint += len(dressed.paints)
        self.people_vertices = first_vertex
        for piece in scene.furniture:
            faces.append(piece.faces + first_vertex)
            face_material.append(piece.face_material[:, None].repeat(2, 1) + first_material)
            face_border.append(np.ones((len(piece.faces), 3), np.float32))
            materials.append(piece.materials)
            patterns.append(piece.vertices.astype(np.float32))
            first_vertex += len(piece.vertices)
            first_material += len(piece.materials)
        self.faces = np.concatenate(faces).astype(np.int32)
        self.face_material = np.concatenate(face_material).astype(np.int32)
        self.face_border = np.concatenate(face_border)
        self.materials = np.concatenate(materials)
        self.patterns = np.concatenate(patterns)
        self.paints = np.concatenate(paints)
        self.decals = np.stack(decals)
        rng = np.random.default_rng(scene.seed)
        size = (scene.height + GRAIN_MARGIN, scene.width + GRAIN_MARGIN)
        self.grain = rng.standard_normal((*size, 1), np.float32) + 0.5 * rng.standard_normal(
            (*size, 3), np.float32
        )

        key = scene.room.light
        right = np.cross([0.0, 0, 1], key)
        right /= np.linalg.norm(right)
        self.light_axes = np.stack([right, np.cross(key, right), -key])

    def vertices(self, seconds: float) -> np.ndarray:
        """[V, 3] float64, everything in the world at a time."""
        out = np.empty((self.people_vertices + len(self.still), 3))
        out[self.people_vertices :] = self.still
        first = 0
        for actor, dressed, pose in zip(self.scene.actors, self.dressed, self.poses, strict=True):
            sample = (seconds + LEAD) * actor.motion.rate
            low = min(int(sample), len(pose.positions) - 2)
            share = sample - low
            joints = self.body.joints + np.tensordot(actor.shape, self.body.joint_directions, 1)
            # motions are sampled so finely that matrices may be mixed
            rotations = pose.rotations[low] * (1 - share) + pose.rotations[low + 1] * share
            places = pose.positions[low] * (1 - share) + pose.positions[low + 1] * share
            offsets = places - np.einsum("jab,jb->ja", rotations, joints)
            rest = dressed.rest
            if actor.outfit.slip:
                rest = rest + (
                    np.sin(2 * np.pi * 1.1 * seconds + actor.seed) * dressed.slide[0]
                    + np.cos(2 * np.pi * 0.7 * seconds + actor.seed) * dressed.slide[1]
                )
            last = first + len(rest)
            raster.skin(
                rest, dressed.joint_index, dressed.joint_share,
                np.concatenate([rotations, offsets[..., None]], axis=2), out[first:last],
            )  # fmt: skip
            first = last
        return out

    def draw(self, t: int) -> np.ndarray:
        """[H, W, 3] uint8, one frame."""
        scene, room = self.scene, self.scene.room
        height, width = scene.height, scene.width
        middle = t / scene.fps
        shadow = self._shadow(self.vertices(middle))
        blobs = self._blobs(middle)
        light = (room.light, room.ambient, room.key)
        image = np.zeros((height, width, 3), np.float32)
        backdrop = np.empty_like(image)
        inverse_depth = np.empty((height, width), np.float32)
        index = np.empty((height, width), np.int32)
        corners = np.empty((len(self.patterns), 3))
        normals = np.empty((len(self.patterns), 3))
        count = 4 if scene.shutter <= 0.25 else 8
        smeared = self._camera_blur(t) > MAX_SHARP_BLUR
        for sample in range(count):
            open_for = scene.shutter * ((sample + 0.5) / count - 0.5)  # frames
            view = self._view(t + open_for)
            rotation, place, focal = view
            vertices = self.vertices(middle + open_for / scene.fps)
            jitter = JITTER[sample % 4]
            if smeared or sample == 0:
                raster.draw_room(
                    backdrop, *(view if smeared else self._view(t)), room.low, room.high, room.texels,
                    room.levels, room.sizes, light, blobs, shadow,
                )  # fmt: skip
            raster.project(
                vertices, rotation, place, focal, width / 2 - jitter[0], height / 2 - jitter[1], corners
            )
            raster.rasterize(corners, self.faces, inverse_depth, index)
            raster.vertex_normals(vertices, self.faces, normals)
            raster.shade(
                image, backdrop, index, corners, self.faces, self.face_material, self.face_border,
                self.materials, self.patterns, normals, vertices, place, light, noise_cube(), self.decals,
                self.paints, shadow,
            )  # fmt: skip
        display = DISPLAY[(image * (len(DISPLAY) - 1) / count).clip(0, len(DISPLAY) - 1).astype(np.int32)]
        # one field of noise, cut out elsewhere for each frame
        y, x = np.random.default_rng([scene.seed, t]).integers(0, GRAIN_MARGIN, 2)
        display += scene.noise * self.grain[y : y + height, x : x + width]
        return display.clip(0, 255).astype(np.uint8)

    def _camera_blur(self, t: int) -> float:
        """How far the camera's own motion smears the room in a frame, pixels, about."""
        steps = self._view(t - self.scene.shutter / 2), self._view(t + self.scene.shutter / 2)
        (turn, place, focal), (last_turn, last_place, last_focal) = steps
        far = place + turn[2] * ROOM_DEPTH + turn[0] * ROOM_DEPTH / 3
        first, last = turn @ (far - place), last_turn @ (far - last_place)
        return float(np.abs(first[:2] / first[2] * focal - last[:2] / last[2] * last_focal).max())

    def _view(self, frame: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Rotation, place and focal length at a time between frames."""
        camera = self.scene.camera
        steps = np.arange(len(camera.focal))
        frame = float(np.clip(frame, 0, len(steps) - 1))
        place = np.array([np.interp(frame, steps, camera.place[:, a]) for a in range(3)])
        angles = np.array([[np.interp(frame, steps, camera.angles[:, a]) for a in range(3)]])
        focal = float(np.interp(frame, steps, camera.focal))
        return CameraPath(place[None], angles, np.array([focal])).rotations()[0], place, focal

    def _shadow(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """The key light's depth map, its axes, its corner and pixels a meter."""
        flat = vertices @ self.light_axes[:2].T
        low, high = flat.min(0) - 0.1, flat.max(0) + 0.1
        scale = (SHADOW_SIDE - 12) / max((high - low).max(), 2.5)
        low = (low + high) / 2 - SHADOW_SIDE / 2 / scale
        shadow_map = np.empty((SHADOW_SIDE, SHADOW_SIDE), np.float32)
        raster.light_depths(vertices, self.faces, self.light_axes, low, scale, shadow_map)
        return shadow_map, self.light_axes, low, scale

    def _blobs(self, seconds: float) -> np.ndarray:
        """[B, 4] contact shadows on the floor: x, y, radius, strength, under feet and hips."""
        rows = [np.zeros((0, 4))]
        for actor, pose in zip(self.scene.actors, self.poses, strict=True):
            places = pose.positions[round((seconds + LEAD) * actor.motion.rate)]
            for joint, radius, strength in ((16, 0.16, 0.5), (19, 0.16, 0.5), (0, 0.45, 0.25)):
                x, y, z = places[joint]
                above = max(z - 0.09, 0.0)
                rows.append(np.array([[x, y - 0.04, radius + above / 3, strength / (1 + 2.5 * above)]]))
        return np.concatenate(rows)

    def truth(self) -> Truth:
        scene = self.scene
        count, size = scene.num_frames, len(self.body.template)
        people = [np.empty((count, size, 3), np.float32) for _ in scene.actors]
        occluders = np.empty((count, len(self.still), 3), np.float32)
        for t in range(count):
            seen = (self.vertices(t / scene.fps) - scene.camera.place[t]) @ self.rotations[t].T
            for i, vertices in enumerate(people):
                vertices[t] = seen[i * size : (i + 1) * size]
            occluders[t] = seen[self.people_vertices :]
        faces = [np.zeros((0, 3), np.int32)]
        first = 0
        for piece in scene.furniture:
            faces.append(piece.faces + first)
            first += len(piece.vertices)
        return Truth(
            people=people,
            faces=[self.body.faces] * len(people),
            occluders=occluders,
            occluder_faces=np.concatenate(faces).astype(np.int32),
            focal=scene.camera.focal,
            height=scene.height,
            width=scene.width,
        )
