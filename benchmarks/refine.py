"""What refining a mesh source contributes: true poses of rendered clips, with errors of TokenHMR's published size.

    python -m benchmarks.refine --half held_out

TokenHMR (Dwivedi et al., CVPR 2024) reports a mean joint error of 71.0 mm, and of 44.3 mm after alignment (3DPW).
The true poses get errors of that size: of each joint's rotation, of the root's, and of position and scale in the image;
most of it lasts for half a second, the rest is new in each frame, as networks that see one frame at a time err.

`--errors` puts one other kind of error in their place: wrong depth, a wrong size over the whole clip, jitter, people
whose numbers are exchanged for a third of the clip, or frames without meshes. Their sizes are guesses.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.config import LabelingConfig, labeling_config
from anthrotap_builder.context import ClipContext
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.mesh_file import BodyParameters, ClipMeshes, MeshFile
from anthrotap_builder.pipeline import Stages, label_clip
from benchmarks.label_accuracy.measure import evaluate_labels, mean_of, pooled, results_table
from benchmarks.synthetic.clip_sets import load_clip, rendered_set
from benchmarks.synthetic.clip_spec import HALVES, ClipSpec
from benchmarks.synthetic.renderer import LEAD, Scene

JOINT_ERROR, ALIGNED_ERROR = 0.071, 0.0443  # meters
LASTING = 0.5  # seconds
LASTING_SHARE = 0.8  # of the variance
# Of the root across the image, relative to the person's height; not published, so a guess.
POSITION_ERROR = 0.01
SCALE_ERROR = 0.04  # likewise
HEIGHT = 1.7  # meters

PAPER = {
    "filter": {"masks": False, "rule": "steps"},
    "visibility": "rays",
}
# What the fit and the checks know of the people: nothing, or who the open default finds, with masks.
WITHOUT_PEOPLE, WITH_PEOPLE = False, True
WAYS: dict[str, tuple[bool, dict[str, Any]]] = {
    "as it is, the paper's checks": (WITH_PEOPLE, PAPER),
    "as it is, our checks": (WITH_PEOPLE, {}),
    "refined, without our people": (WITHOUT_PEOPLE, {"refine": True, "filter": {"masks": False}}),
    "refined, our checks": (WITH_PEOPLE, {"refine": True}),
}
KINDS = ("tokenhmr", "depth", "scale", "jitter", "swapped", "missing")
DEPTH_ERROR = 0.08  # of the distance, and lasting for half a second
CLIP_SCALE_ERROR = 0.08  # of the distance, the same in all frames: as of a person of another height
JITTER = 0.05, 0.01  # each joint's rotation, radians; the root, meters
MISSING_RUN, MISSING_EVERY = 3, 12  # frames


def true_poses(scene: Scene, body: Body, camera: Camera) -> list[BodyPose]:
    """Everyone's pose in the clip's frames, in coordinates of `camera`; depth takes up another focal length."""
    turns, poses = scene.camera.rotations(), []
    for actor in scene.actors:
        motion = actor.motion.parameters(body, actor.shape).posed(body)
        samples = np.round((np.arange(scene.num_frames) / scene.fps + LEAD) * actor.motion.rate).astype(int)
        rotations = turns[:, None] @ motion.rotations[samples]
        positions = np.einsum("tab,tjb->tja", turns, motion.positions[samples] - scene.camera.position[:, None])
        away = np.zeros((scene.num_frames, 1, 3))
        away[:, 0, 2] = positions[:, 0, 2] * (camera.focal / scene.camera.focal - 1)
        poses.append(BodyPose(rotations, positions + away, actor.shape))
    return poses


def errors(count: int, parts: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """[T, parts] of variance one: most of it lasts, the rest is new in each frame."""
    lasting = gaussian_filter1d(rng.normal(size=(count + 200, parts)), LASTING * fps / 2, axis=0)
    lasting = lasting[100 : count + 100] / lasting.std()
    fresh = rng.normal(size=(count, parts))
    return np.sqrt(LASTING_SHARE) * lasting + np.sqrt(1 - LASTING_SHARE) * fresh


def joint_errors(pose: BodyPose, truth: BodyPose) -> tuple[float, float]:
    """Mean distance of joints, meters: roots laid on each other; and after the best similarity (Umeyama 1991)."""
    ours, theirs = (p.positions - p.positions[:, :1] for p in (pose, truth))
    plain = np.linalg.norm(ours - theirs, axis=-1).mean()
    a, b = ours - ours.mean(1, keepdims=True), theirs - theirs.mean(1, keepdims=True)
    u, s, vt = np.linalg.svd(np.einsum("tja,tjb->tab", b, a))
    sign = np.ones((len(a), 3))
    sign[:, 2] = np.sign(np.linalg.det(u @ vt))
    turn = np.einsum("tab,tb,tbc->tac", u, sign, vt)
    scale = (s * sign).sum(1) / (a**2).sum((1, 2))
    aligned = scale[:, None, None] * np.einsum("tab,tjb->tja", turn, a)
    return float(plain), float(np.linalg.norm(aligned - b, axis=-1).mean())


def with_errors(body: Body, truth: BodyPose, fps: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Local rotations [T, J, 3, 3] and translation [T, 3] of a pose with errors of the published size."""
    count, local = len(truth.positions), truth.local_rotations(body)
    turns = errors(count, 3 * body.num_joints, fps, rng).reshape(count, -1, 3)
    offset = errors(count, 3, fps, rng)
    rest = body.joints[0] + np.tensordot(truth.shape, body.joint_directions[:, 0], 1)
    root = truth.positions[:, 0].copy()
    root[:, :2] += POSITION_ERROR * HEIGHT * offset[:, :2]
    root *= np.exp(SCALE_ERROR * offset[:, 2:])

    def made(joints: float, whole: float) -> tuple[np.ndarray, BodyPose]:
        sizes = np.full((body.num_joints, 1), joints)
        sizes[0] = whole
        error = Rotation.from_rotvec((turns * sizes).reshape(-1, 3)).as_matrix().reshape(local.shape)
        rotations = local @ error
        return rotations, BodyPose.of_local(body, rotations, truth.shape, root - rest)

    joints = _find(lambda size: joint_errors(made(size, 0.0)[1], truth)[1], ALIGNED_ERROR)
    whole = _find(lambda size: joint_errors(made(joints, size)[1], truth)[0], JOINT_ERROR)
    return made(joints, whole)[0], root - rest


def with_one_error(
    body: Body, truth: BodyPose, fps: float, rng: np.random.Generator, kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """What `with_errors` returns, with one kind of error. Those of numbers and of frames leave each body as it is."""
    count, local, root = len(truth.positions), truth.local_rotations(body), truth.positions[:, 0].copy()
    rest = body.joints[0] + np.tensordot(truth.shape, body.joint_directions[:, 0], 1)
    if kind == "depth":
        root *= np.exp(DEPTH_ERROR * errors(count, 1, fps, rng))
    elif kind == "scale":
        root *= 1 + rng.choice([-1, 1]) * CLIP_SCALE_ERROR
    elif kind == "jitter":
        turns = JITTER[0] * rng.normal(size=(count * body.num_joints, 3))
        local = local @ Rotation.from_rotvec(turns).as_matrix().reshape(local.shape)
        root += JITTER[1] * rng.normal(size=root.shape)
    return local, root - rest


def numbers_and_frames(kind: str, count: int, people: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each person's mesh [P, T], and whether there is one [P, T]."""
    person = np.repeat(np.arange(people)[:, None], count, 1)
    present = np.ones((people, count), bool)
    if kind == "swapped":
        middle = slice(count // 3, 2 * count // 3)
        person[:, middle] = np.roll(person[:, middle], 1, axis=0)
    if kind == "missing":
        present[:, np.arange(count) % MISSING_EVERY >= MISSING_EVERY - MISSING_RUN] = False
    return person, present


def _find(measure: Any, wanted: float) -> float:
    """The size, up to one radian, at which a growing measure is as wanted."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < wanted else (low, middle)
    return (low + high) / 2


def label_all_ways(spec: ClipSpec, folder: Path, kind: str = "tokenhmr") -> dict[str, Any]:
    """The figures of a clip, and the size of the errors, under each way to use the mesh source."""
    clip, scene, body = load_clip(spec, folder, 1), spec.build(), load_body("anny")
    height, width = clip.frames.shape[1:3]
    camera = Camera.guess(width, height, LabelingConfig().focal_ratio)
    rng = np.random.default_rng(sum(map(ord, spec.name)))
    made, sizes, count = [], [], len(clip.frames)
    for pose in true_poses(scene, body, camera):
        if kind == "tokenhmr":
            rotations, translation = with_errors(body, pose, clip.fps, rng)
        else:
            rotations, translation = with_one_error(body, pose, clip.fps, rng, kind)
        noisy = BodyPose.of_local(body, rotations, pose.shape, translation)
        sizes.append(joint_errors(noisy, pose))
        made.append((rotations, np.tile(pose.shape, (count, 1)), translation))
    person, present = numbers_and_frames(kind, count, len(made))
    rows = present.reshape(-1)
    parameters = BodyParameters(*(np.concatenate(part)[rows] for part in zip(*made, strict=True)))
    file = MeshFile(
        # Labels name the digest of a file.
        path=Path(__file__),
        frame=np.tile(np.arange(count), len(made))[rows],
        person=person.reshape(-1)[rows],
        size=(height, width),
        focal=np.full(2, camera.focal),
        principal_point=np.array([width / 2, height / 2]),
        body="anny",
        vertices=None,
        faces=None,
        parameters=parameters,
    )
    people = Stages().detection(ClipContext.of(clip.frames, clip.fps, threads=1))
    stages = Stages(detection=lambda *_: people)
    meshes = ClipMeshes(file, np.arange(count))
    figures = {}
    for name, (has_people, settings) in WAYS.items():
        known = stages if has_people else Stages(detection=lambda *_: [])
        config = labeling_config("open", {"mesh_source": "file", **settings})
        tracks = label_clip(clip.frames, clip.fps, config, 1, stages=known, meshes=meshes).tracks
        figures[name] = evaluate_labels(tracks, clip.truth)
    tracks = label_clip(clip.frames, clip.fps, LabelingConfig(), 1, stages=stages).tracks
    figures["the open default"] = evaluate_labels(tracks, clip.truth)
    return {"figures": figures, "errors": sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/label_accuracy"), help="rendered clips")
    parser.add_argument("--half", choices=HALVES, default="held_out")
    parser.add_argument("--clip", action="append", help="only this clip; may be repeated")
    parser.add_argument("--errors", choices=KINDS, default="tokenhmr", help="kind of error of the mesh source")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    specs = [spec for spec in rendered_set(options.half, "standard") if not options.clip or spec.name in options.clip]
    with ProcessPoolExecutor(options.processes) as pool:
        by_clip = list(pool.map(partial(label_all_ways, folder=options.folder, kind=options.errors), specs))
    sizes = np.concatenate([found["errors"] for found in by_clip])
    rows = {name: [found["figures"][name] for found in by_clip] for name in by_clip[0]["figures"]}
    console = Console(width=180)
    joint, aligned = 1000 * sizes.mean(0)
    console.print(f"{options.half}, {options.errors}: mean joint error {joint:.1f} mm, aligned {aligned:.1f} mm")
    for title, together in (("all labels", pooled), ("mean of clips", mean_of)):
        console.print(results_table({name: together(found) for name, found in rows.items()}, title))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
