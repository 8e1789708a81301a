"""Draw the pictures of these pages, from a rendered clip: python docs/make_pictures.py [FOLDER]

`how-it-works.md` shows one frame after each stage; the cards and the README show the tracks.
"""

from __future__ import annotations

import colorsys
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from anthrotap_builder.bodies import load_body
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, detect_people
from anthrotap_builder.filtering import filter_labels
from anthrotap_builder.flow.track_flow import TrackFlow, track_flow
from anthrotap_builder.mesh_recovery import MeshTrack
from anthrotap_builder.pipeline import LabeledClip, Stages, label_clip
from anthrotap_builder.surface_tracks import SurfaceTracks, project_and_test_visibility
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.visualization.overlay import draw_tracks, track_colors
from benchmarks.synthetic.demo import demo_clip

PEOPLE_COLORS = np.array([[255, 140, 40], [60, 170, 255]])
VISIBLE, OCCLUDED, REJECTED, UNCERTAIN = (60, 220, 90), (255, 255, 255), (235, 50, 50), (250, 200, 40)
# Pixels beside the people.
MARGIN = 60
# Pixels of motion that the mesh does not explain, drawn at full color.
FLOW_PIXELS = 4.0


class RecordedStages:
    """The stages of the open default, and what each of them found."""

    def __init__(self) -> None:
        self.people: list[PersonTrack] = []
        self.points: SurfaceTracks | None = None
        self.flow: list[TrackFlow] = []
        self.tracks: Tracks | None = None

    def stages(self) -> Stages:
        return Stages(
            detection=self._detection,
            visibility=self._visibility,
            flow=self._flow,
            filtering=self._filtering,
        )

    def _detection(self, context: ClipContext) -> list[PersonTrack]:
        self.people = detect_people(context)
        return self.people

    def _visibility(self, context: ClipContext, meshes: list[MeshTrack]) -> SurfaceTracks:
        self.points = project_and_test_visibility(context, meshes)
        return self.points

    def _flow(self, context: ClipContext, xy: np.ndarray, visible: np.ndarray) -> list[TrackFlow]:
        self.flow = track_flow(context, xy, visible)
        return self.flow

    def _filtering(
        self, context: ClipContext, points: SurfaceTracks, people: list[PersonTrack], flow: list[TrackFlow]
    ) -> tuple[Tracks, float]:
        self.tracks, rejected_fraction = filter_labels(context, points, people, flow)
        return self.tracks, rejected_fraction


def stage_pictures(frames: np.ndarray, fps: float) -> dict[str, np.ndarray]:
    """Draw one frame of a clip after each stage.

    Args:
        frames: [T, H, W, 3] uint8 RGB, of people.
        fps: frames a second.

    Returns:
        [H, W', 3] uint8 RGB by the stage's name, cut to where people are.
    """
    recorded = RecordedStages()
    clip = label_clip(frames, fps, stages=recorded.stages())
    points, flow, tracks = recorded.points, recorded.flow, recorded.tracks
    if points is None or not flow or tracks is None:
        raise ValueError("no person was found in the clip")
    # The frame with most occlusion.
    t = int(clip.tracks.occluded.sum(0).argmax())
    t = min(max(t, 1), len(frames) - 2)
    image = frames[t]
    pictures = {
        "video": image,
        "detection": _draw_people(image, recorded.people, t),
        "mesh-recovery": _draw_meshes(image, clip, t),
        "projection": _dots(image, points.xy[:, t], PEOPLE_COLORS[points.person % 2]),
        "visibility": _draw_visibility(image, points, t),
        "flow": _draw_flow(image, points, flow[0], t),
        "filtering": _draw_filtering(image, points, tracks, t),
        "tracks": draw_tracks(image, clip.tracks, t, track_colors(clip.tracks), trail=8),
    }
    boxes = np.stack([person.boxes[t] for person in recorded.people if person.found[t]])
    left, right = int(boxes[:, 0].min()) - MARGIN, int(boxes[:, 2].max()) + MARGIN
    return {name: picture[:, max(left, 0) : right] for name, picture in pictures.items()}


def _draw_people(image: np.ndarray, people: list[PersonTrack], t: int) -> np.ndarray:
    """Draw masks and landmarks."""
    canvas = image.copy()
    for person, color in zip(people, PEOPLE_COLORS, strict=False):
        if person.mask is not None:
            canvas[person.mask[t]] = (0.45 * canvas[person.mask[t]] + 0.55 * color).astype(np.uint8)
    for person in people:
        if person.landmarks is not None:
            sure = person.landmarks[t, :, 2] > 0.5
            white = np.full((int(sure.sum()), 3), 255)
            canvas = _dots(canvas, person.landmarks[t, sure, :2], white, radius=4)
    return canvas


def _draw_meshes(image: np.ndarray, clip: LabeledClip, t: int) -> np.ndarray:
    """Draw triangles from back to front, each in the color of the bone that moves it most."""
    assert clip.camera is not None
    body = load_body("anny")
    bones = body.weights.argmax(1)[body.faces[:, 0]]
    colors = np.array([colorsys.hsv_to_rgb(0.382 * bone % 1, 0.45, 0.95) for bone in bones]) * 255
    present = [mesh for mesh in clip.meshes if mesh.present[t]]
    corners = np.concatenate([mesh.vertices[t][body.faces] for mesh in present])
    colors = np.concatenate([colors for _ in present])
    positions = np.round(16 * (clip.camera.project(corners) - 0.5)).astype(np.int32)
    canvas = (0.5 * image).astype(np.uint8)
    for n in np.argsort(-corners[..., 2].mean(1)):
        cv2.fillConvexPoly(canvas, positions[n], colors[n].tolist(), cv2.LINE_8, 4)
    return canvas


def _draw_visibility(image: np.ndarray, points: SurfaceTracks, t: int) -> np.ndarray:
    """Draw points: filled where no mesh is in front, hollow behind; yellow within the visibility margin."""
    visible, certain = points.visible[:, t], points.certain[:, t]
    canvas = _dots(image, points.xy[~visible, t], np.array(OCCLUDED), hollow=True)
    colors = np.where(certain[visible, None], VISIBLE, UNCERTAIN)
    return _dots(canvas, points.xy[visible, t], colors)


def _draw_flow(image: np.ndarray, points: SurfaceTracks, flow: TrackFlow, t: int) -> np.ndarray:
    """Draw the motion that flow finds and the mesh does not explain: green none, red much."""
    step = points.xy[:, t + 1] - points.xy[:, t]
    left_over = np.linalg.norm(flow.displacement[:, t] - step, axis=1)
    known = points.visible[:, t] & np.isfinite(left_over)
    fraction = np.clip(left_over[known] / FLOW_PIXELS, 0, 1)[:, None]
    canvas = _dots(image, points.xy[known, t], (1 - fraction) * VISIBLE + fraction * REJECTED)
    for start, end in zip(points.xy[known, t], (points.xy[:, t] + 4 * flow.displacement[:, t])[known], strict=True):
        ends = np.round(16 * (np.stack([start, end]) - 0.5)).astype(int)
        cv2.line(canvas, tuple(ends[0]), tuple(ends[1]), (255, 255, 255), 1, cv2.LINE_AA, 4)
    return canvas


def _draw_filtering(image: np.ndarray, points: SurfaceTracks, tracks: Tracks, t: int) -> np.ndarray:
    """Draw valid labels, visible (green) or occluded (hollow), and rejected ones that are visible by the mesh (red)."""
    # Filtering splits tracks and drops those without labels: they are told by person and vertex.
    valid = tracks.valid[:, t]
    labeled = set(zip(tracks.person[valid].tolist(), tracks.vertex[valid].tolist(), strict=True))
    of_point = zip(points.person.tolist(), points.vertex.tolist(), strict=True)
    rejected = points.visible[:, t] & np.array([point not in labeled for point in of_point])
    canvas = _dots(image, points.xy[rejected, t], np.array(REJECTED))
    canvas = _dots(canvas, tracks.xy[tracks.occluded[:, t], t], np.array(OCCLUDED), hollow=True)
    return _dots(canvas, tracks.xy[tracks.visible[:, t], t], np.array(VISIBLE))


def _dots(image: np.ndarray, xy: np.ndarray, colors: np.ndarray, radius: int = 2, hollow: bool = False) -> np.ndarray:
    canvas = image.copy()
    known = np.isfinite(xy[:, 0])
    positions = np.round(16 * (xy[known] - 0.5)).astype(int)
    paints = np.broadcast_to(colors, (len(xy), 3))[known]
    if not hollow:
        for position in positions:
            cv2.circle(canvas, tuple(position), 16 * radius + 14, (20, 20, 20), cv2.FILLED, cv2.LINE_AA, 4)
    for position, paint in zip(positions, paints, strict=True):
        thickness = 1 if hollow else cv2.FILLED
        cv2.circle(canvas, tuple(position), 16 * radius, np.asarray(paint, float).tolist(), thickness, cv2.LINE_AA, 4)
    return canvas


def main(folder: Path, tracks: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        rendered = demo_clip(Path(scratch, "dancers.mp4"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in stage_pictures(rendered.frames[:48], rendered.fps).items():
        path = tracks if name == "tracks" else folder / f"{name}.jpg"
        cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        print(path)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]), Path(sys.argv[1], "tracks.jpg"))
    else:
        home = Path(__file__).parent
        main(home / "pictures", home.parent / "model_cards/tracks.jpg")
