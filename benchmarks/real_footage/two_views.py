"""Two calibrated cameras that watch one scene: where labels of the two views say that a surface point is in space.

A label is right only if the ray through it in one view meets the ray through the same surface point's label in
the other. Two rays have four coordinates and a point has three, so what the views can contradict each other in
is one number a point: the gap between its rays, across the plane of the two cameras and the point. An error
within that plane moves the point and leaves no gap; so a gap is a lower bound of the labels' error.

Conventions of Qualisys's calibration files (`.qca.txt`), and what bears them out:

- `x y z` is the camera's center in millimeters; `r11 ... r33`, row by row, is the rotation from the world to a
  camera that looks along *minus* z with y up. diag(1, -1, -1) takes that to ours: along plus z, y down. (The scene of
  the balance clips, triangulated, is level and metric.)
- Focal lengths and principal point are in 1/64 pixel, counted from the center of the first pixel, for the sensor ends
  at 64 (width - 1): half a pixel is added, since our rasters begin at the first pixel's corner.
- Distortion is OpenCV's (Brown's model), from ideal to real directions, in units of the focal length: a charuco
  calibration of the same cameras (Pose2Sim's Demo_SinglePerson, Calib_scene.toml) has k1 -0.053 and k2 0.151 where the
  file has -0.046 and 0.140. (Pose2Sim's reader divides them by 64, which makes them vanish.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy.optimize import least_squares

from benchmarks.label_accuracy.measure import LAGS, MIN_CASES
from benchmarks.real_footage.views import View

# The second view is as its camera gave it, 1088x1920. The first is 1080 wide: the camera's picture scaled to 1080x1906
# between black bars. Registered to Pose2Sim's full-size still of that camera (710 matches) it is off by 0.05 pixel.
VIEWS = {"balance_cam01.mp4": "cam01", "balance_cam03.mp4": "cam03"}  # video: its camera's name
MASK_VIDEOS = ("juggle.mp4", "upper_body.mkv", "bedroom.mp4")  # besides the two views
MASK_FRAMES = 48  # of each of those

# Things that stand still, in full-size raster pixels of the two views: the treadmill's white dots (found to 0.1
# pixel as blobs), its four bolts and the rims of its two posts (by eye, to about a pixel).
SCENE_POINTS = {
    "dot, left back": ((518.7, 1064.7), (486.1, 1432.4)),
    "dot, right back": ((766.6, 1290.7), (165.1, 1240.9)),
    "dot, left front": ((109.6, 1060.7), (874.3, 1234.5)),
    "dot, right front": ((317.8, 1335.4), (517.0, 1091.6)),
    "bolt, left back": ((511.4, 1035.0), (520.6, 1501.4)),
    "bolt, right back": ((786.4, 1278.4), (142.0, 1269.0)),
    "bolt, left front": ((66.0, 1058.0), (912.0, 1228.6)),
    "bolt, right front": ((279.0, 1360.0), (532.6, 1077.0)),
    "post, back": ((947.4, 1424.0), (61.0, 1058.4)),
    "post, front": ((668.4, 1519.4), (260.4, 969.4)),
}
# Frames by which one view is shifted against the other.
OFFSETS = range(-3, 4)
SUBPIXELS = 64  # a pixel's units in a .qca.txt
UNDISTORT_ITERATIONS = 20
_TO_OURS = np.diag([1.0, -1.0, -1.0])  # from y up, looking along -z


@dataclass(frozen=True)
class CalibratedCamera:
    """A pinhole camera with lens distortion, somewhere in the world.

    Attributes:
        name: as in the calibration file.
        width, height: size of the frames that pixels refer to.
        focal: [2] float64, focal lengths in pixels along x and y.
        principal: [2] float64, principal point, raster pixels.
        distortion: [5] float64, OpenCV's k1, k2, p1, p2, k3.
        rotation: [3, 3] float64, from world to camera directions (x right, y down, z forward).
        center: [3] float64, the camera's position in the world, millimeters.
    """

    name: str
    width: int
    height: int
    focal: np.ndarray
    principal: np.ndarray
    distortion: np.ndarray
    rotation: np.ndarray
    center: np.ndarray

    def project(self, points: np.ndarray) -> np.ndarray:
        """[..., 2] raster pixels of world points [..., 3] in millimeters; NaN at or behind the camera plane."""
        local = (points - self.center) @ self.rotation.T
        depth = np.where(local[..., 2:] > 0, local[..., 2:], np.nan)
        return _distort(local[..., :2] / depth, self.distortion) * self.focal + self.principal

    def rays(self, xy: np.ndarray) -> np.ndarray:
        """[..., 3] unit directions in the world of the rays through raster pixels [..., 2]."""
        ideal = _undistort((xy - self.principal) / self.focal, self.distortion)
        local = np.concatenate([ideal, np.ones_like(ideal[..., :1])], axis=-1)
        world = local @ self.rotation
        return world / np.linalg.norm(world, axis=-1, keepdims=True)

    def fitted_into(self, width: int, height: int) -> CalibratedCamera:
        """The same camera in frames of another size, the picture scaled to fit and centerd between black bars."""
        scale = min(width / self.width, height / self.height)
        bars = np.array([width - scale * self.width, height - scale * self.height]) / 2
        return replace(
            self,
            width=width,
            height=height,
            focal=scale * self.focal,
            principal=scale * self.principal + bars,
        )


@dataclass(frozen=True)
class Meeting:
    """Where pairs of rays come closest.

    Attributes:
        points: [..., 3] float64, the middle of the shortest line between the two rays, millimeters.
        gap: [..., 3] float64, that line, from the first camera's ray to the second's, millimeters.
        signed: [...] float64, its length, with a sign that tells on which side the second ray passes.
        pixels: [..., 2] float64, distance of `points` from the labels in each view, pixels of that view.
    """

    points: np.ndarray
    gap: np.ndarray
    signed: np.ndarray
    pixels: np.ndarray


def meet(first: CalibratedCamera, second: CalibratedCamera, first_xy: np.ndarray, second_xy: np.ndarray) -> Meeting:
    """Triangulates points by the shortest line between their two rays.

    Args:
        first, second: the cameras.
        first_xy, second_xy: [..., 2] float, the points in each view, raster pixels. NaN gives NaN.
    """
    first_xy, second_xy = first_xy.astype(np.float64), second_xy.astype(np.float64)
    a, b = first.rays(first_xy), second.rays(second_xy)
    base = second.center - first.center
    normal = np.cross(a, b)
    square = (normal**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # rays that are parallel meet nowhere: NaN
        along_a = (np.cross(base, b) * normal).sum(-1) / square
        along_b = (np.cross(base, a) * normal).sum(-1) / square
        signed = (base * normal).sum(-1) / np.sqrt(square)
    on_a = first.center + along_a[..., None] * a
    on_b = second.center + along_b[..., None] * b
    points = (on_a + on_b) / 2
    pixels = [
        np.linalg.norm(camera.project(points) - xy, axis=-1) for camera, xy in ((first, first_xy), (second, second_xy))
    ]
    return Meeting(points, on_b - on_a, signed, np.stack(pixels, axis=-1))


def aim(
    first: CalibratedCamera, second: CalibratedCamera, first_xy: np.ndarray, second_xy: np.ndarray
) -> CalibratedCamera:
    """`first` with the principal point at which its rays best meet those of `second`.

    A camera that was moved after its calibration points elsewhere, which to first order is a shift of the image.
    Static points of the scene that are visible in both views show by how much.

    Args:
        first, second: the cameras.
        first_xy, second_xy: [N, 2] float, the same points in each view, raster pixels; at least 3.
    """
    if len(first_xy) < 3 or first_xy.shape != second_xy.shape:
        raise ValueError(f"aiming needs 3 points or more in both views, got {first_xy.shape}, {second_xy.shape}")

    def shifted(shift: np.ndarray) -> CalibratedCamera:
        return replace(first, principal=first.principal + shift)

    found = least_squares(lambda shift: meet(shifted(shift), second, first_xy, second_xy).signed, np.zeros(2))
    return shifted(found.x)


def read_qca(path: str | Path) -> dict[str, CalibratedCamera]:
    """The cameras of a Qualisys calibration file, by name (its `serial`), in full-size raster pixels.

    Raises:
        ValueError: if the file cannot be read or is no such calibration; one line that names the file.
    """
    try:
        root = ElementTree.fromstring(Path(path).read_bytes(), ElementTree.XMLParser(target=_NoDoctype()))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path}: is no Qualisys calibration (.qca.txt): {error}") from error
    cameras = {}
    for number, element in enumerate(root.iterfind("cameras/camera"), 1):
        name = element.get("serial", "")
        try:
            cameras[name] = _camera(name, element)
        except ValueError as error:
            raise ValueError(
                f"{path}: camera {name or number} cannot be used: {error}; export the calibration again"
            ) from error
    if not cameras:
        raise ValueError(f"{path}: has no <cameras><camera>; is it a Qualisys calibration (.qca.txt)?")
    return cameras


class _NoDoctype(ElementTree.TreeBuilder):
    """A calibration has no use for a document type, and entities (the way to blow a parser up) need one."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a document type is declared, which calibrations do not have")


def _camera(name: str, element: ElementTree.Element) -> CalibratedCamera:
    turn, lens, video = (_numbers(element, tag) for tag in ("transform", "intrinsic", "fov_video"))
    rotation = np.array([[turn(f"r{row}{column}") for column in (1, 2, 3)] for row in (1, 2, 3)])
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise ValueError("r11 ... r33 are no rotation")
    corner = np.array([video("left"), video("top")])
    width, height = np.array([video("right"), video("bottom")]) - corner + 1
    focal = np.array([lens("focalLengthU"), lens("focalLengthV")]) / SUBPIXELS
    if not (width >= 1 and height >= 1 and (focal > 0).all()):
        raise ValueError(f"a frame of {width:g}x{height:g} and focal lengths {focal} make no camera")
    if lens("skew"):
        raise ValueError(f"skew {lens('skew'):g} is not handled here, only 0")
    distortion = ["radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2"]
    return CalibratedCamera(
        name=name,
        width=int(width),
        height=int(height),
        focal=focal,
        principal=np.array([lens("centerPointU"), lens("centerPointV")]) / SUBPIXELS - corner + 0.5,
        distortion=np.array([lens(key) for key in (*distortion, "radialDistortion3")]),
        rotation=_TO_OURS @ rotation,
        center=np.array([turn(axis) for axis in "xyz"]),
    )


def _numbers(element: ElementTree.Element, tag: str) -> Callable[[str], float]:
    """Reads the number attributes of a child of `element`."""
    child = element.find(tag)
    if child is None:
        raise ValueError(f"<{tag}> is missing")

    def number(key: str) -> float:
        text = child.get(key)
        try:
            value = float(text if text is not None else "")
        except ValueError:
            raise ValueError(f"{key} of <{tag}> is {text!r}, not a number") from None
        if not np.isfinite(value):
            raise ValueError(f"{key} of <{tag}> is {text!r}, not finite")
        return value

    return number


def _distort(ideal: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """[..., 2] directions on the plane z = 1 as the lens bends them (Brown 1966, in OpenCV's order)."""
    k1, k2, p1, p2, k3 = distortion
    x, y = ideal[..., 0], ideal[..., 1]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    return np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=-1,
    )


def _undistort(real: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """The inverse of `_distort`, by fixed point: distortion is a small step."""
    ideal = real
    for _ in range(UNDISTORT_ITERATIONS):
        ideal = real - (_distort(ideal, distortion) - ideal)
    return ideal


def compare_views(
    first: View,
    second: View,
    first_camera: CalibratedCamera,
    second_camera: CalibratedCamera,
    lags: Sequence[int] = LAGS,
    scene_points: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = SCENE_POINTS,
) -> dict[str, Any]:
    """Whether the rays of the two views' labels meet.

    Args:
        first, second: what is labeled, in step.
        first_camera, second_camera: their cameras, for frames of full size.
        lags: frames over which the gap's change is measured.
        scene_points: positions in both views of static points, to aim the first camera by.

    Returns:
        scene: gaps, millimeters, at the `scene_points`: `as_shipped`; `aimed`, after `aim`; `held_out`,
            each point with the aim of all others; and the `shift` of the first camera's principal point, pixels.
        pairs: median gap over all surface points for each pair of people "first, second", millimeters.
        people: the pair that agrees, which all else is about.
        offsets: median gap with the second view so many frames later; least at 0 if the views are in step.
        visible, all: for points visible in both views, and for all of the mesh: `count` of labels, of how many surface
            `points`, and, as `median` and `p90`,
            gap_mm: between the two rays;
            px: distance of the triangulated point from the label, mean of the views, full-size pixels;
            px_256: the same for a short side of 256.
            lags: by lag, how much the gap changes: `count`, `points`, slide_mm, and each view's half of it as slide_px
                and slide_px_256.
    """
    points = np.array(list(scene_points.values()))
    shipped = meet(first_camera, second_camera, points[:, 0], points[:, 1]).signed
    aimed = aim(first_camera, second_camera, points[:, 0], points[:, 1])
    held_out = []
    for index in range(len(points)):
        others = np.delete(points, index, axis=0)
        blind = aim(first_camera, second_camera, others[:, 0], others[:, 1])
        held_out.append(meet(blind, second_camera, points[index, 0], points[index, 1]).signed)
    scene = {
        "as_shipped": dict(zip(scene_points, np.round(shipped, 1).tolist(), strict=True)),
        "aimed": dict(
            zip(
                scene_points,
                np.round(meet(aimed, second_camera, points[:, 0], points[:, 1]).signed, 1).tolist(),
                strict=True,
            )
        ),
        "held_out": dict(zip(scene_points, np.round(held_out, 1).tolist(), strict=True)),
        "shift": (aimed.principal - first_camera.principal).round(2).tolist(),
    }
    gaps = {
        (i, j): float(np.nanmedian(np.abs(meet(aimed, second_camera, first.xy[i], second.xy[j]).signed)))
        for i, j in product(range(len(first.xy)), range(len(second.xy)))
    }
    one, other = min(gaps, key=lambda pair: np.nan_to_num(gaps[pair], nan=np.inf))  # NaN: never there together
    a, b = first.xy[one], second.xy[other]
    frames = np.arange(a.shape[1])
    offsets = {}
    for offset in OFFSETS:
        t = frames[(frames + offset >= 0) & (frames + offset < len(frames))]
        meeting = meet(aimed, second_camera, a[:, t], b[:, t + offset])
        offsets[str(offset)] = float(np.nanmedian(np.abs(meeting.signed)))
    meeting = meet(aimed, second_camera, a, b)
    cameras, sizes = (aimed, second_camera), [min(v.width, v.height) for v in (first, second)]
    anywhere = np.isfinite(meeting.signed)
    both = first.label_visible[one] & second.label_visible[other] & anywhere
    return {
        "scene": scene,
        "pairs": {f"{i}, {j}": gap for (i, j), gap in gaps.items()},
        "people": [one, other],
        "offsets": offsets,
        "visible": _gap_figures(meeting, both, cameras, sizes, lags),
        "all": _gap_figures(meeting, anywhere, cameras, sizes, lags),
    }


def _gap_figures(
    meeting: Meeting,
    chosen: np.ndarray,
    cameras: tuple[CalibratedCamera, CalibratedCamera],
    sizes: Sequence[int],
    lags: Sequence[int],
) -> dict[str, Any]:
    to_256 = 256 / np.array(sizes)
    # A millimeter across the line of sight in pixels of each view; half the gap is each view's.
    depth = np.stack([np.linalg.norm(meeting.points - camera.center, axis=-1) for camera in cameras], axis=-1)
    half = np.array([camera.focal.mean() for camera in cameras]) / depth / 2
    out: dict[str, Any] = {
        "count": int(chosen.sum()),
        "points": int(chosen.any(1).sum()),
        "gap_mm": _spread(np.abs(meeting.signed[chosen])),
        "px": _spread(meeting.pixels[chosen].mean(-1)),
        "px_256": _spread((meeting.pixels[chosen] * to_256).mean(-1)),
        "lags": {},
    }
    for lag in lags:
        kept = chosen[:, lag:] & chosen[:, :-lag]
        slide = np.abs(meeting.signed[:, lag:] - meeting.signed[:, :-lag])[kept]
        out["lags"][str(lag)] = {
            "count": int(kept.sum()),
            "points": int(kept.any(1).sum()),
            "slide_mm": _spread(slide),
            "slide_px": _spread(slide * half[:, lag:][kept].mean(-1)),
            "slide_px_256": _spread(slide * (half[:, lag:][kept] * to_256).mean(-1)),
        }
    return out


def _spread(values: np.ndarray) -> dict[str, float | None]:
    if len(values) < MIN_CASES:
        return {"median": None, "p90": None}
    return {"median": float(np.median(values)), "p90": float(np.percentile(values, 90))}
