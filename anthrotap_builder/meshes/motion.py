"""What optical flow says of a fitted body's motion, so that the fit can be asked to agree with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from anthrotap_builder.bodies.body import Body
from anthrotap_builder.bodies.surface import SurfacePoints
from anthrotap_builder.config import FitSettings, FlowSettings
from anthrotap_builder.flow import FLOWS, Flow, sample_flow
from anthrotap_builder.meshes.kinematics import PoseParameters
from anthrotap_builder.meshes.terms import Motion
from anthrotap_builder.projection import Camera
from anthrotap_builder.visibility import visible_points

MARGIN = 24  # pixels around the body that flow may use
FILL = 25  # pixels from a surface point up to which its motion is taken over


def observe_motion(
    frames: np.ndarray,
    mask: np.ndarray,
    body: Body,
    surface: SurfacePoints,
    used: int,
    parameters: PoseParameters,
    camera: Camera,
    lags: dict[int, int],
    flow_settings: FlowSettings,
    settings: FitSettings,
    threads: int = 1,
) -> list[Motion]:
    """Flow at the body's surface points, measured on what the fit leaves over.

    The later frame is first warped by the fit's own motion; flow then only has to find the remainder, which it can
    over many frames and through fast motion. A point counts where it is visible and well inside the mask at both
    ends, and where going and coming back agree.

    Args:
        frames: [T, H, W, 3] uint8 RGB.
        mask: [T, H, W] bool, the person's pixels.
        body, parameters: the fit as it stands.
        surface: points spread over the body: the motion of all of them is what frames are warped by.
        used: flow is asked for at the first `used` of them.
        camera: of the clip.
        lags: frames between the two ends -> step between pairs.
        flow_settings: which flow.
        settings: thresholds.
        threads: how many pairs are worked on at once.
    """
    vertices = body.pose_vertices(parameters.posed(body))
    xy = camera.project(surface.positions(vertices, body.faces)).transpose(1, 0, 2).astype(np.float32)
    visible = np.stack([visible_points([v], [body.faces], [surface])[0] for v in vertices], axis=1)
    visible &= camera.contains(xy)
    kernel = np.ones((5, 5), np.uint8)
    sure = np.stack([cv2.erode(m.astype(np.uint8), kernel) > 0 for m in mask])
    height, width = mask.shape[1:]
    cells = np.clip(np.nan_to_num(xy), 0, [width - 1, height - 1]).astype(np.intp)
    usable = visible & sure[np.arange(len(frames)), cells[..., 1], cells[..., 0]]

    def measure(flow: Flow, t: int, lag: int) -> tuple[np.ndarray, np.ndarray]:
        both = usable[:used, t] & usable[:used, t + lag]
        displacement = np.zeros((used, 2), np.float32)
        if not both.any():
            return displacement, both
        at = [t, t + lag]
        seen = visible[:, at].any(1)
        low = np.clip(xy[seen][:, at].min((0, 1)) - MARGIN, 0, [width - 65, height - 65]).astype(int)
        high = np.clip(xy[seen][:, at].max((0, 1)) + MARGIN, low + 64, [width, height]).astype(int)
        window = slice(low[1], high[1]), slice(low[0], high[0])
        first, second = frames[t][window], frames[t + lag][window]
        there = _flow_beyond(flow, first, second, xy[:, t] - low, xy[:, t + lag] - low, visible[:, t])
        back = _flow_beyond(flow, second, first, xy[:, t + lag] - low, xy[:, t] - low, visible[:, t + lag])
        start = xy[:used, t] - low
        displacement = sample_flow(there, start)
        closing = displacement + sample_flow(back, start + displacement)
        unit = min(height, width) / 256
        allowed = settings.flow_round_trip * unit * (1.0 if lag == 1 else 1.5)
        return displacement, both & (np.linalg.norm(closing, axis=1) < allowed)

    motions = []
    for lag, step in lags.items():
        start = np.arange(0, len(frames) - lag, step)
        if not len(start):
            continue

        def work(share: np.ndarray, lag: int = lag) -> list[tuple[np.ndarray, np.ndarray]]:
            flow = FLOWS[flow_settings.model](flow_settings)
            return [measure(flow, t, lag) for t in share]

        with ThreadPoolExecutor(threads) as pool:
            results = [pair for part in pool.map(work, np.array_split(start, threads)) for pair in part]
        unit = min(height, width) / 256
        sigma = settings.sigma_flow * unit * (1.0 if lag == 1 else 1.5)
        motions.append(
            Motion(
                lag=lag,
                start=start,
                flow=np.nan_to_num(np.stack([displacement for displacement, _ in results])).astype(np.float64),
                weights=np.stack([good for _, good in results]) * (settings.flow_weight / used),
                sigma=np.full((len(start), 1), sigma),
                camera=camera,
            )
        )
    return motions


def _flow_beyond(
    flow: Flow,
    first: np.ndarray,
    second: np.ndarray,
    first_xy: np.ndarray,
    second_xy: np.ndarray,
    visible: np.ndarray,
) -> np.ndarray:
    """[h, w, 2] float32: flow from `first` to `second`, found after taking away the motion of the surface points."""
    predicted = _spread(first_xy[visible], (second_xy - first_xy)[visible], first.shape[:2])
    columns, rows = np.meshgrid(
        np.arange(first.shape[1], dtype=np.float32), np.arange(first.shape[0], dtype=np.float32)
    )
    warped = cv2.remap(
        second,
        columns + predicted[..., 0],
        rows + predicted[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    rest = flow(first, warped)
    # The pixel at x went to x + rest(x) in the warped frame, which shows the second frame at that place plus its
    # predicted motion.
    return rest + cv2.remap(
        predicted,
        columns + rest[..., 0],
        rows + rest[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _spread(xy: np.ndarray, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w, 2] float32: at each pixel the value of the nearest point within FILL pixels, else zero."""
    height, width = size
    inside = ((xy >= 0) & (xy < [width, height])).all(1) & np.isfinite(values).all(1)
    columns, rows = xy[inside].astype(np.intp).T
    free = np.ones(size, np.uint8)
    free[rows, columns] = 0
    distance, label = cv2.distanceTransformWithLabels(
        free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((int(label.max()) + 1, 2), np.float32)
    table[label[rows, columns]] = values[inside]
    spread = table[label]
    spread[distance > FILL] = 0
    return spread
