"""The tracking set: rendered people and rendered things with exact tracks of their points, as TAP-Vid pickles them.

Trackers are judged on it (`humans.pkl`, `objects.pkl`) and watched while they train (`validation.pkl`). No clip has a
motion, an outfit or a thing in common with another, nor with the clips of `scenes.py`.
"""

from __future__ import annotations

import ast
import hashlib
import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import decode_video, write_video
from benchmarks.synthetic import motion, shapes
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.objects import (
    ObjectScene,
    Thing,
    photo_room,
    random_look,
    render_objects,
)
from benchmarks.synthetic.raster import NEAR
from benchmarks.synthetic.renderer import (
    Actor,
    CameraPath,
    RenderedClip,
    Scene,
    render_scene,
)
from benchmarks.synthetic.room import (
    STYLES,
    Furniture,
    build_room,
    crates,
    pillar,
    table,
)
from benchmarks.synthetic.truth import Truth
from benchmarks.synthetic.wardrobe import Outfit

SIDE = 256  # pixels; what TAP-Vid is scored at
FRAMES, VALIDATION_FRAMES = 48, 24
POINTS, ON_BACKGROUND = 64, 16
MIN_SEEN = 5  # frames in which a point that is asked for is seen
CLEAR = 0.75  # pixels around a point, where it is asked for, that show what it is on
MOTION_RATE = 192.0  # samples a second
# Changes of these files change the clips.
SOURCES = ("motion", "objects", "raster", "renderer", "room", "shapes", "tracking_set", "truth", "wardrobe")


@dataclass(frozen=True)
class Filming:
    """How a clip is filmed.

    Attributes:
        num_frames, fps: its length and speed.
        shutter: share of a frame's time that the shutter is open.
        noise: of the sensor, of 255 levels.
        crf: how hard H.264 compresses it; None for not at all.
    """

    num_frames: int = FRAMES
    fps: float = 24.0
    shutter: float = 0.2
    noise: float = 1.5
    crf: int | None = 23

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps


@dataclass(frozen=True)
class TrackingClip:
    """A clip of the set: in which file it is, and all that it follows from."""

    name: str
    file: str
    theme: Callable[[np.random.Generator, Filming], Scene]
    seed: int
    filming: Filming = Filming()

    def scene(self) -> Scene:
        return self.theme(np.random.default_rng(self.seed), self.filming)


@dataclass(frozen=True)
class TrackedVideo:
    """frames [T, H, W, 3] uint8 RGB, and points: xy [N, T, 2] float64 raster pixels (also where hidden or out of
    frame), visible [N, T] bool, owner [N] int: the number of the person or thing, -1 for the background."""

    frames: np.ndarray
    xy: np.ndarray
    visible: np.ndarray
    owner: np.ndarray


FILES = ("humans", "objects", "validation")


def tracking_set(files: Sequence[str] = FILES) -> list[TrackingClip]:
    """The clips of some files.

    Raises:
        ValueError: for another file.
    """
    for file in files:
        if file not in FILES:
            raise ValueError(f"no file {file!r} in the tracking set: choose from {', '.join(FILES)}")
    return [clip for clip in _SET if clip.file in files]


def write_tracking_set(
    folder: Path,
    files: Sequence[str] = FILES,
    threads: int = 2,
    on_step: Callable[[TrackingClip, int], object] = lambda clip, frames: None,
) -> list[Path]:
    """Renders the set into `folder`, one pickle a file; clips that are in `folder`/clips are not rendered again.

    Args:
        folder: where the pickles go.
        files: which of `FILES`.
        threads: frames drawn side by side.
        on_step: is told each clip as it is done, and how many of its frames were drawn now.

    Returns:
        The pickles.
    """
    paths = []
    for file in files:
        videos = {}
        for clip in tracking_set([file]):
            video, drawn = _kept(clip, folder, threads)
            videos[clip.name] = {
                "video": video.frames,
                "points": (video.xy / [video.frames.shape[2], video.frames.shape[1]]).astype(np.float32),
                "occluded": ~video.visible,
            }
            on_step(clip, drawn)
        paths.append(folder / f"{file}.pkl")
        with atomic_write(paths[-1]) as tmp_path, open(tmp_path, "wb") as stream:
            pickle.dump(videos, stream, protocol=4)
    return paths


def kept_videos(
    folder: Path, files: Sequence[str] = FILES, threads: int = 2
) -> Iterator[tuple[TrackingClip, TrackedVideo]]:
    """The clips, as they are kept in `folder`; rendered if they are not."""
    for clip in tracking_set(files):
        yield clip, _kept(clip, folder, threads)[0]


def _kept(clip: TrackingClip, folder: Path, threads: int) -> tuple[TrackedVideo, int]:
    """A clip, and how many frames had to be drawn. Files of other versions are neither used nor removed."""
    path = folder / "clips" / f"{clip.name}-{set_version()}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as archive:
            return TrackedVideo(**archive), 0
    video = render_tracks(clip, threads)
    with atomic_write(path) as tmp_path:
        np.savez(tmp_path, frames=video.frames, xy=video.xy, visible=video.visible, owner=video.owner)
    return video, len(video.frames)


@lru_cache(maxsize=1)  # what is edited during a run is not what runs
def set_version() -> str:
    """A hash of the code, comments tmp_path, that decides what the clips are."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update(ast.dump(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())).encode())
    return digest.hexdigest()[:10]


def render_tracks(clip: TrackingClip, threads: int = 2) -> TrackedVideo:
    """Draws a clip and follows points of it. The result depends on the clip alone."""
    scene = clip.scene()
    rendered = (
        render_objects(scene, threads) if isinstance(scene, ObjectScene) else render_scene(scene, threads)
    )
    xy, visible, owner = sample_tracks(scene, rendered.truth, np.random.default_rng([clip.seed, 1]))
    return TrackedVideo(_compressed(rendered, clip.filming.crf), xy, visible, owner)


def _compressed(clip: RenderedClip, crf: int | None) -> np.ndarray:
    if crf is None:
        return clip.frames
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, clip.frames, clip.fps, crf)
        return decode_video(path)


def sample_tracks(
    scene: Scene,
    truth: Truth,
    rng: np.random.Generator,
    count: int = POINTS,
    on_background: int = ON_BACKGROUND,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points at random among those that pixels show, in random frames, and where each is in all frames.

    Points that are seen in fewer than `MIN_SEEN` frames, or that come into sight at the very edge of what they are on,
    are left out: nobody could ask for them.

    Args:
        scene, truth: the clip.
        rng: of the choice.
        count: how many points.
        on_background: so many of them are on the room or its furniture.

    Returns:
        xy, visible, owner, as in `TrackedVideo`; points of people or things first.

    Raises:
        ValueError: if the scene does not show enough such points, or something comes too near the camera to be drawn.
    """
    for vertices in (*truth.people, truth.occluders):
        depth = vertices[..., 2]
        if ((depth > 0) & (depth < NEAR)).any():
            raise ValueError(f"something comes nearer to the camera than {NEAR} m")
    movers = len(truth.people)
    surfaces = _with_furniture(truth)
    found = _shown_points(scene, surfaces, movers, rng)
    parts = []
    for background, wanted in ((False, count - on_background), (True, on_background)):
        own = found.of((found.owner < 0) | (found.owner >= movers) if background else
                       (found.owner >= 0) & (found.owner < movers))  # fmt: skip
        own = own.of(rng.permutation(len(own.owner))[: 4 * wanted])
        xy, visible = follow(scene, surfaces, own)
        good = np.flatnonzero(
            (visible.sum(1) >= MIN_SEEN) & _clear_at_first(surfaces, own, xy, visible, movers)
        )
        if len(good) < wanted:
            where = "the background" if background else "people or things"
            raise ValueError(f"only {len(good)} of {wanted} points on {where} are seen well enough")
        good = np.sort(good[:wanted])
        parts.append((xy[good], visible[good], np.where(own.owner < movers, own.owner, -1)[good]))
    xy, visible, owner = (np.concatenate(part) for part in zip(*parts, strict=True))
    return xy, visible, owner


@dataclass(frozen=True)
class ShownPoints:
    """K points: the mesh that each is on (`owner`, -1: the room), its face and barycentric place there, and, of points
    on the room, the place in the world."""

    owner: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    world: np.ndarray

    def of(self, index: np.ndarray) -> ShownPoints:
        return ShownPoints(self.owner[index], self.face[index], self.barycentric[index], self.world[index])


def _with_furniture(truth: Truth) -> Truth:
    """The truth with its furniture as one mesh more to have points on."""
    return replace(
        truth,
        people=[*truth.people, truth.occluders],
        faces=[*truth.faces, truth.occluder_faces],
        occluders=truth.occluders[:, :0],
        occluder_faces=truth.occluder_faces[:0],
    )


def _shown_points(scene: Scene, surfaces: Truth, movers: int, rng: np.random.Generator) -> ShownPoints:
    """What random pixels of random frames show: in each of 16 frames up to 40 points of each person or thing, and 60 of
    the background."""
    parts = []
    for t in np.sort(rng.choice(surfaces.num_frames, min(16, surfaces.num_frames), replace=False)):
        xy = rng.uniform(0, 1, (1500, 2)) * [surfaces.width, surfaces.height]
        owner, face, barycentric = surfaces.surface_point_under(int(t), xy)
        world = room_points_under(scene, int(t), xy)
        shown = ShownPoints(owner, face, barycentric, world)
        parts += [shown.of(np.flatnonzero(owner == mover)[:40]) for mover in range(movers)]
        parts.append(shown.of(np.flatnonzero((owner < 0) | (owner >= movers))[:60]))
    return ShownPoints(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ShownPoints.__dataclass_fields__
        )
    )


def room_points_under(scene: Scene, t: int, xy: np.ndarray) -> np.ndarray:
    """[K, 3] the places in the world, on the inside of the room, that lie behind raster places [K, 2] of frame t."""
    rotation, place, focal = scene.camera.rotations()[t], scene.camera.place[t], scene.camera.focal[t]
    rays = np.concatenate([(xy - [scene.width / 2, scene.height / 2]) / focal, np.ones((len(xy), 1))], axis=1)
    rays = rays @ rotation
    with np.errstate(divide="ignore"):
        reach = (np.where(rays > 0, scene.room.high, scene.room.low) - place) / rays
    return place + reach.min(1, keepdims=True) * rays


def follow(scene: Scene, surfaces: Truth, points: ShownPoints) -> tuple[np.ndarray, np.ndarray]:
    """xy [K, T, 2] and visible [K, T] of points in all frames of a clip. Where a point is behind the camera, xy is that
    of the nearest frame in which it is not."""
    # Points of the room ride along as triangles without area, which hide nothing.
    room = (points.world - scene.camera.place[:, None]) @ scene.camera.rotations().transpose(0, 2, 1)
    count = len(points.owner)
    surfaces = replace(
        surfaces,
        people=[*surfaces.people, room],
        faces=[*surfaces.faces, np.arange(count, dtype=np.int32)[:, None].repeat(3, 1)],
    )
    in_room = points.owner < 0
    owner = np.where(in_room, len(surfaces.people) - 1, points.owner)
    face = np.where(in_room, np.arange(count), points.face)
    barycentric = np.where(in_room[:, None], [1.0, 0, 0], points.barycentric)
    xy = np.empty((count, surfaces.num_frames, 2))
    visible = np.empty((count, surfaces.num_frames), bool)
    for t in range(surfaces.num_frames):
        xy[:, t], visible[:, t] = surfaces.place(t, owner, face, barycentric)
    known = ~np.isnan(xy[..., 0])
    frames = np.arange(surfaces.num_frames)
    for k in np.flatnonzero(~known.all(1)):
        there = np.flatnonzero(known[k])
        xy[k] = xy[k, there[np.abs(frames[:, None] - there).argmin(1)]]
    return xy, visible


def _clear_at_first(
    surfaces: Truth, points: ShownPoints, xy: np.ndarray, visible: np.ndarray, movers: int
) -> np.ndarray:
    """[K] bool: whether, where a point is first seen, the pixels around it show the same mesh (or the background)."""
    clear = np.array(visible.any(1))
    first = visible.argmax(1)
    own = np.where(points.owner < movers, points.owner, -1)
    for t in np.unique(first):
        here = np.flatnonzero(first == t)
        for offset in ((CLEAR, 0), (-CLEAR, 0), (0, CLEAR), (0, -CLEAR)):
            around = np.clip(xy[here, t] + offset, 0.01, [surfaces.width - 0.01, surfaces.height - 0.01])
            owner = surfaces.surface_point_under(int(t), around)[0]
            clear[here] &= np.where(owner < movers, owner, -1) == own[here]
    return clear


# People


def _person(rng: np.random.Generator, controls: np.ndarray, start: tuple[float, float] = (0.0, 0.0),
            stay: float | None = 0.9, **outfit: object) -> Actor:  # fmt: skip
    shape = np.clip(rng.normal(size=10), -1.5, 1.5) * [0.35, *[0.9] * 9]
    return Actor(
        Motion(controls, MOTION_RATE, start, stay),
        shape,
        Outfit.random(rng, **outfit),
        int(rng.integers(1 << 30)),
    )


def _camera(
    rng: np.random.Generator,
    filming: Filming,
    place: tuple[float, float, float] = (0.0, -4.8, 1.15),
    tilt: float = -0.05,
    focal: float = 520.0,
    pan: float = 0.0,
    move: tuple[float, float, float] = (0.0, 0.0, 0.0),
    zoom: float = 1.0,
    shake: float = 0.0,
) -> CameraPath:
    """A camera that pans by `pan` radians around +y, travels by `move`, zooms by a factor and shakes (pixels)."""
    t = np.linspace(0, 1, filming.num_frames)
    eased = t * t * (3 - 2 * t)
    places = np.array(place) + (eased[:, None] - 0.5) * np.array(move)
    noise = gaussian_filter1d(rng.normal(size=(filming.num_frames, 3)), 2.5, axis=0, mode="wrap")
    noise *= shake / focal / noise.std()
    angles = np.stack(
        [(eased - 0.5) * pan + noise[:, 0], tilt + 0.7 * noise[:, 1], 0.6 * noise[:, 2]], axis=1
    )
    return CameraPath(places, angles, focal * zoom ** (eased - 0.5))


def _people(rng: np.random.Generator, filming: Filming, actors: list[Actor], camera: CameraPath,
            furniture: list[Furniture] | None = None) -> Scene:  # fmt: skip
    seed = int(rng.integers(1 << 30))
    room = build_room(str(rng.choice(STYLES)), seed)
    return Scene(
        actors, room, camera, furniture or [], filming.fps, filming.shutter, filming.noise, seed, SIDE, SIDE
    )


def _walk_by(rng: np.random.Generator, filming: Filming) -> Scene:
    heading = 1.2 * rng.choice([-1, 1])
    controls = motion.walk(filming.seconds, MOTION_RATE, rng, heading, 1.0)
    camera = _camera(rng, filming, pan=0.3 * np.sign(heading), shake=1.0, move=(0.2, 0.3, 0))
    return _people(rng, filming, [_person(rng, controls, (0.0, 0.2), None)], camera)


def _walk_round(rng: np.random.Generator, filming: Filming) -> Scene:
    controls = motion.walk(filming.seconds, MOTION_RATE, rng, rng.uniform(-1, 1), 1.0, turn=1.3)
    return _people(
        rng, filming, [_person(rng, controls)], _camera(rng, filming, move=(1.2, 0.4, 0.2), shake=0.8)
    )


def _dance(rng: np.random.Generator, filming: Filming) -> Scene:
    controls = motion.dance(filming.seconds, MOTION_RATE, rng, tempo=2.1, turning=0.7)
    person = _person(rng, controls, looseness=0.02)
    return _people(rng, filming, [person], _camera(rng, filming, focal=580.0, shake=0.4))


def _dance_pair(rng: np.random.Generator, filming: Filming) -> Scene:
    people = [
        _person(rng, motion.dance(filming.seconds, MOTION_RATE, rng, tempo=2.0), (x, y))
        for x, y in ((-0.35, 0.35), (0.35, -0.25))
    ]
    return _people(rng, filming, people, _camera(rng, filming, move=(0.9, 0, 0), focal=500.0))


def _crossing(rng: np.random.Generator, filming: Filming) -> Scene:
    people = [
        _person(rng, motion.walk(filming.seconds, MOTION_RATE, rng, heading, pace), place, None)
        for heading, pace, place in ((1.45, 1.0, (0.0, -0.4)), (-1.45, 0.9, (0.1, 0.5)))
    ]
    return _people(rng, filming, people, _camera(rng, filming, shake=0.5))


def _three(rng: np.random.Generator, filming: Filming) -> Scene:
    people = [
        _person(rng, motion.walk(filming.seconds, MOTION_RATE, rng, -1.5, 1.0), (0.1, -0.6), None),
        _person(rng, motion.dance(filming.seconds, MOTION_RATE, rng, tempo=1.8), (-0.45, 0.3)),
        _person(rng, motion.turn_around(filming.seconds, MOTION_RATE, rng, 2.0), (0.55, 0.6)),
    ]
    return _people(rng, filming, people, _camera(rng, filming, place=(0, -5.2, 1.3), move=(0.6, 0, 0.2)))


def _crouch(rng: np.random.Generator, filming: Filming) -> Scene:
    controls = motion.crouch(filming.seconds, MOTION_RATE, rng, rng.uniform(-0.9, 0.9))
    return _people(rng, filming, [_person(rng, controls)], _camera(rng, filming, zoom=1.25))


def _lunge(rng: np.random.Generator, filming: Filming) -> Scene:
    controls = motion.lunge(filming.seconds, MOTION_RATE, rng, rng.choice([-1, 1]) * 0.8)
    return _people(rng, filming, [_person(rng, controls)], _camera(rng, filming, focal=470.0, shake=1.5))


def _spin(rng: np.random.Generator, filming: Filming) -> Scene:
    person = _person(rng, motion.turn_around(filming.seconds, MOTION_RATE, rng, 2.6), long_hair=True)
    return _people(rng, filming, [person], _camera(rng, filming, zoom=1.2))


def _behind_table(rng: np.random.Generator, filming: Filming) -> Scene:
    person = _person(rng, motion.dance(filming.seconds, MOTION_RATE, rng, tempo=1.9, turning=0.8))
    front = [table((-0.2, -1.0), (1.4, 0.6, 0.8), 4), crates((0.45, -1.1), 0.45, 3, int(rng.integers(1000)))]
    return _people(rng, filming, [person], _camera(rng, filming, move=(0.9, 0, 0.2)), front)


def _behind_pillars(rng: np.random.Generator, filming: Filming) -> Scene:
    side = float(rng.choice([-1, 1]))
    walker = _person(rng, motion.walk(filming.seconds, MOTION_RATE, rng, 1.35 * side, 1.0), (0.0, 0.2), None)
    front = [pillar((x, -0.75), width, 2.6, int(rng.integers(1000))) for x, width in
             ((-0.75, 0.2), (-0.05, 0.26), (0.7, 0.18))]  # fmt: skip
    return _people(rng, filming, [walker], _camera(rng, filming, move=(0.3, 0, 0), shake=0.6), front)


def _boxing(rng: np.random.Generator, filming: Filming) -> Scene:
    person = _person(rng, motion.box(filming.seconds, MOTION_RATE, rng, rng.uniform(-0.9, 0.9)))
    return _people(rng, filming, [person], _camera(rng, filming, focal=600.0, shake=1.0))


def _fast_arms(rng: np.random.Generator, filming: Filming) -> Scene:
    person = _person(rng, motion.wave_arms(filming.seconds, MOTION_RATE, rng, 1.9))
    return _people(rng, filming, [person], _camera(rng, filming))


def _jumping(rng: np.random.Generator, filming: Filming) -> Scene:
    person = _person(rng, motion.jumping_jacks(filming.seconds, MOTION_RATE, rng), looseness=0.03, slip=0.03)
    return _people(rng, filming, [person], _camera(rng, filming, zoom=0.8, focal=480.0))


def _close_up(rng: np.random.Generator, filming: Filming) -> Scene:
    person = _person(rng, motion.hands_on_body(filming.seconds, MOTION_RATE, rng), sleeves="long")
    camera = _camera(rng, filming, (0.1, -3.0, 1.3), -0.02, shake=2.0, move=(0.3, 0.4, 0))
    return _people(rng, filming, [person], camera)


# Things


def _things(rng: np.random.Generator, filming: Filming, things: list[Thing], camera: CameraPath,
            furniture: list[Furniture] | None = None, photo: bool = False) -> ObjectScene:  # fmt: skip
    seed = int(rng.integers(1 << 30))
    room = photo_room(rng) if photo else build_room(str(rng.choice(STYLES)), seed)
    return ObjectScene(
        [], room, camera, furniture or [], filming.fps, filming.shutter, filming.noise, seed, SIDE, SIDE, things
    )  # fmt: skip


def _thing(rng: np.random.Generator, shape: shapes.Shape, path: shapes.Path, picture: float = 0.35) -> Thing:
    return Thing(shape, path, [random_look(rng, shape, picture) for _ in range(shape.part.max() + 1)])


def _solid(rng: np.random.Generator, size: float) -> shapes.Shape:
    """Something stiff, about `size` across."""
    kind = int(rng.integers(6))
    if kind == 0:
        return shapes.blob(rng, 0.42 * size, 0.3)
    if kind == 1:
        return shapes.blob(rng, 0.42 * size, 0.22, 12)
    if kind == 2:
        return shapes.superellipsoid(size / 2 * rng.uniform(0.55, 1, 3), float(rng.choice([1.2, 3.0, 6.0])))
    if kind == 3:
        return shapes.box(rng, size * rng.uniform(0.45, 0.95, 3))
    if kind == 4:
        return shapes.torus(0.36 * size, 0.13 * size, rng.uniform(0.7, 1))
    return shapes.knot(0.33 * size, 0.1 * size, *((2, 3), (3, 2), (2, 5))[rng.integers(3)])


NEAR_PLACE = (0.0, -3.4, 1.1)  # of the camera, for things smaller than people


def _tumbling(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(rng, _solid(rng, rng.uniform(0.5, 0.8)),
               shapes.floating(rng, (x, y, z), (0.35, 0.3, 0.25), rng.uniform(1, 2.5) * rng.choice([-1, 1])))
        for x, y, z in ((-0.4, 0.3, 1.25), (0.4, 0.0, 1.0), (0.0, -0.5, 0.75))
    ]  # fmt: skip
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, shake=0.5))


def _rolling(rng: np.random.Generator, filming: Filming) -> Scene:
    speed = 1.5 / filming.seconds * 1.3
    ball = shapes.blob(rng, 0.3, 0.03)
    rings = [shapes.torus(0.3, 0.1), shapes.superellipsoid((0.26, 0.26, 0.2), 5.0)]
    things = [
        _thing(rng, ball, shapes.rolling(rng, (0.0, -0.3), (speed, 0.1), 0.3)),
        _thing(rng, rings[0], shapes.rolling(rng, (0.1, 0.3), (-speed, -0.25), 0.4)),
        _thing(rng, rings[1], shapes.rolling(rng, (-0.2, -0.9), (-0.7 * speed, 0.2), 0.26)),
    ]
    camera = _camera(rng, filming, (0.0, -3.8, 1.3), -0.24, 480.0, move=(0.4, 0.2, 0))
    return _things(rng, filming, things, camera, [crates((0.75, 0.9), 0.5, 2, int(rng.integers(1000)))])


def _bouncing(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(rng, shapes.box(rng, (0.5, 0.4, 0.45)) if n == 0 else _solid(rng, 0.5),
               shapes.bouncing(rng, (x, y), (v / filming.seconds, 0.1), rng.uniform(0.5, 1.0), 0.3, rng.uniform(2, 5)))
        for n, (x, y, v) in enumerate(((-0.3, 0.2, 1.1), (0.3, -0.4, -1.0), (0.0, 0.8, 1.4)))
    ]  # fmt: skip
    return _things(rng, filming, things, _camera(rng, filming, (0, -3.8, 1.2), -0.13, 480.0))


def _orbit(rng: np.random.Generator, filming: Filming) -> Scene:
    middle = (0.0, 0.0, 1.05)
    things = [_thing(rng, _solid(rng, 0.6), shapes.floating(rng, middle, (0.1, 0.1, 0.1), 1.0))]
    for n in range(3):
        path = shapes.orbiting(
            rng, middle, 0.8, 2.4, 2 * np.pi * n / 3, rng.uniform(0.5, 2.5), rng.uniform(0.1, 0.5)
        )
        things.append(_thing(rng, _solid(rng, rng.uniform(0.4, 0.55)), path))
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, focal=470.0, move=(0.5, 0, 0.2)))


def _flag(rng: np.random.Generator, filming: Filming) -> Scene:
    sheet = shapes.cloth(rng, 1.3, 1.2, 0.14)
    way = rng.choice([-1, 1]) * 1.7 / filming.seconds
    things = [
        _thing(rng, sheet, shapes.hanging(rng, (0.0, 0.2, 1.75), 0.12), 0.6),
        _thing(
            rng, _solid(rng, 0.4), shapes.floating(rng, (0, -0.75, 1.05), (0.2, 0.1, 0.3), 2.0, (way, 0, 0))
        ),
    ]
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, shake=0.6))


def _curtains(rng: np.random.Generator, filming: Filming) -> Scene:
    way = 1.0 / filming.seconds
    behind = shapes.creature(rng, "star", 1.2)
    things = [
        _thing(rng, shapes.cloth(rng, 0.45, 1.3, 0.16), shapes.hanging(rng, (x, -0.4, 1.75), 0.2), 0.5)
        for x in (-0.5, 0.4)
    ]
    things.append(
        _thing(rng, behind, shapes.floating(rng, (0, 0.5, 1.1), (0.2, 0.1, 0.15), 1.4, (way, 0, 0)))
    )
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, move=(0.6, 0, 0)), photo=True)


def _snakes(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(rng, shapes.snake(rng, 1.5, 0.095), shapes.walking(rng, (-0.1, -0.4, 0.3), 0.2, 0.45), 0.0),
        _thing(rng, shapes.snake(rng, 1.3, 0.08), shapes.walking(rng, (0.1, 0.4, 0.3), 2.8, 0.4), 0.0),
    ]
    front = [
        crates((-0.5, -0.95), 0.3, 1, int(rng.integers(1000))),
        pillar((0.4, 0.0), 0.14, 1.6, int(rng.integers(99))),
    ]
    camera = _camera(rng, filming, (0.0, -3.2, 1.35), -0.3, 520.0, move=(0.4, 0, 0.1))
    return _things(rng, filming, things, camera, front)


def _beast(rng: np.random.Generator, filming: Filming) -> Scene:
    side = float(rng.choice([-1, 1]))
    way = 1.1 / filming.seconds
    body = shapes.creature(rng, "quadruped", 1.1, rng.uniform(1.1, 1.6))
    floor = -float(body.rest[:, 2].min())
    heading = 0.25 if side > 0 else np.pi - 0.25
    things = [
        _thing(rng, body, shapes.walking(rng, (0, 0, floor), heading, way, rng.uniform(-0.3, 0.3)), 0.15)
    ]
    front = [pillar((-0.35 * side, -0.9), 0.16, 2.2, int(rng.integers(1000))),
             crates((0.6 * side, -0.75), 0.4, 1, int(rng.integers(1000)))]  # fmt: skip
    camera = _camera(rng, filming, (0, -3.6, 0.9), -0.1, 520.0, pan=0.12 * side, shake=0.8)
    return _things(rng, filming, things, camera, front)


def _crawlers(rng: np.random.Generator, filming: Filming) -> Scene:
    bodies = [
        shapes.creature(rng, kind, size, 1.4)
        for kind, size in (("spider", 1.1), ("spider", 0.8), ("star", 0.9))
    ]
    things = [
        _thing(rng, bodies[0], shapes.walking(rng, (-0.2, 0.1, 0.24), rng.uniform(-1, 1), 0.5, 0.5), 0.0),
        _thing(rng, bodies[1], shapes.walking(rng, (0.4, -0.6, 0.18), 2.5, 0.5, -0.4), 0.0),
        _thing(rng, bodies[2], shapes.floating(rng, (0.1, -0.2, 1.0), (0.3, 0.2, 0.1), 1.5), 0.0),
    ]
    camera = _camera(rng, filming, (0.0, -3.2, 1.5), -0.32, 500.0, zoom=1.15)
    return _things(rng, filming, things, camera)


def _chains(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(rng, shapes.chain(rng, links, 0.26, 0.085), shapes.hanging(rng, (x, y, 1.9), 0.4, 1.0), 0.0)
        for links, x, y in ((6, -0.35, 0.2), (5, 0.1, -0.3), (6, 0.45, 0.1))
    ]
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, shake=0.5), photo=True)


def _jelly(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(rng, shapes.blob(rng, radius, 0.22, 4, jelly),
               shapes.floating(rng, place, (0.25, 0.2, 0.2), rng.uniform(0.3, 1.2)))
        for radius, jelly, place in ((0.42, 0.8, (-0.3, 0.2, 1.2)), (0.34, 1.0, (0.4, -0.3, 0.85)))
    ]  # fmt: skip
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, move=(0.3, 0.3, 0), shake=0.7))


def _twisting(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(
            rng,
            shapes.box(rng, size, 1.1),
            shapes.floating(rng, place, (0.2, 0.2, 0.15), rng.uniform(0.6, 1.6)),
            0.5,
        )
        for size, place in (((0.4, 0.35, 1.1), (-0.3, 0.2, 1.1)), ((0.5, 0.12, 0.9), (0.4, -0.4, 1.0)))
    ]
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, pan=0.15), photo=True)


def _swarm(rng: np.random.Generator, filming: Filming) -> Scene:
    things = []
    for _ in range(9):
        center = rng.uniform([-0.8, -0.7, 0.5], [0.8, 0.9, 1.7])
        drift = rng.normal(0, 0.35, 3) * [1, 0.5, 0.6]
        path = shapes.floating(rng, center, (0.2, 0.2, 0.2), rng.normal(0, 2), drift)
        things.append(_thing(rng, _solid(rng, rng.uniform(0.28, 0.5)), path))
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, focal=440.0, move=(0.8, 0.2, 0.3)))


def _knots(rng: np.random.Generator, filming: Filming) -> Scene:
    things = [
        _thing(rng, shapes.knot(size, 0.3 * size, *kind), shapes.floating(rng, place, (0.2, 0.2, 0.15), spin))
        for size, kind, place, spin in (
            (0.33, (2, 3), (-0.35, 0.1, 1.15), 2.0),
            (0.28, (3, 2), (0.4, -0.3, 0.9), -2.6),
        )
    ]
    return _things(rng, filming, things, _camera(rng, filming, NEAR_PLACE, shake=0.4), photo=True)


_SLOW, _CLEAN = Filming(fps=30.0, crf=None), Filming(noise=0.5, crf=None)
_BLURRED, _NOISY = Filming(shutter=0.6), Filming(noise=3.5, crf=26)
_SQUEEZED, _SPARSE = Filming(crf=32), Filming(fps=12.0, shutter=0.35)
_SHORT = Filming(num_frames=VALIDATION_FRAMES)


def _clips(file: str, first_seed: int, entries: Sequence[tuple[Callable, Filming]]) -> list[TrackingClip]:
    kind = {"humans": "human", "objects": "object"}
    return [
        TrackingClip(
            f"{kind.get(file, 'validation')}-{theme.__name__.strip('_').replace('_', '-')}",
            file, theme, first_seed + n, filming,
        )
        for n, (theme, filming) in enumerate(entries)
    ]  # fmt: skip


_SET = [
    *_clips("humans", 7301, [
        (_walk_by, Filming()), (_walk_round, _NOISY), (_dance, _CLEAN), (_dance_pair, Filming()),
        (_crossing, _SQUEEZED), (_three, Filming()), (_crouch, _SLOW), (_lunge, Filming()),
        (_spin, Filming(fps=16.0)), (_behind_table, _CLEAN), (_behind_pillars, Filming()), (_boxing, _SPARSE),
        (_fast_arms, _BLURRED), (_jumping, _NOISY), (_close_up, Filming()),
    ]),
    *_clips("objects", 8301, [
        (_tumbling, _CLEAN), (_rolling, Filming()), (_bouncing, _BLURRED), (_orbit, Filming()),
        (_flag, _CLEAN), (_curtains, Filming()), (_snakes, Filming()), (_beast, _SQUEEZED),
        (_crawlers, Filming()), (_chains, _NOISY), (_jelly, Filming()), (_twisting, _SLOW),
        (_swarm, Filming()), (_knots, _SPARSE),
    ]),
    *_clips("validation", 9301, [
        (_dance, _SHORT), (_behind_pillars, _SHORT), (_crossing, replace(_SHORT, noise=3.0)),
        (_fast_arms, replace(_SHORT, shutter=0.5)),
        (_orbit, _SHORT), (_flag, _SHORT), (_beast, _SHORT), (_jelly, replace(_SHORT, crf=30)),
    ]),
]  # fmt: skip
