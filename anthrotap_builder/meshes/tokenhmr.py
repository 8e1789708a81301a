"""TokenHMR's bodies: each person's box in each frame, by itself (the paper's mesh source; licensed files)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anthrotap_builder.assets import AssetError, cache_dir
from anthrotap_builder.bodies.body import Body, BodyPose
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.meshes.crops import crop_person, place_in_frame
from anthrotap_builder.meshes.track import MeshTrack
from anthrotap_builder.networks import quietly, torch_threads
from anthrotap_builder.people import PersonTrack
from anthrotap_builder.projection import Camera

BATCH = 16  # crops at once
CONVERT = (
    "get the released files (https://tokenhmr.is.tue.mpg.de, for non-commercial research) and run `anthrotap convert "
    "tokenhmr CHECKPOINT {folder} --tokenizer FILE --mean-parameters FILE`"
)


def find_meshes(
    people: list[PersonTrack],
    frames: np.ndarray,
    body: Body,
    camera: Camera,
    fps: float,
    config: LabelingConfig,
    threads: int = 2,
    device: str = "cpu",
) -> list[MeshTrack]:
    """Everyone's bodies in the frames where they have a box.

    The network tells depth by the focal length that it was trained with; that of `camera` takes its place, and the
    bodies stay where they are in the picture.

    Args:
        people: their boxes are looked into.
        frames: [T, H, W, 3] uint8 RGB.
        body: SMPL.
        camera: of the clip.
        fps: frames a second; of no account, each frame is seen by itself.
        config: where the network lies.
        threads: how many crops are made at once, and how many threads the network uses.
        device: where it runs, as torch names it.

    Raises:
        AssetError: if there is no converted network.
    """
    model = load_tokenhmr(config.tokenhmr, device)
    with torch_threads(threads), ThreadPoolExecutor(threads) as pool:
        return [
            _track(index, person, frames, body, camera, model, pool) for index, person in enumerate(people)
        ]


def _track(
    index: int,
    person: PersonTrack,
    frames: np.ndarray,
    body: Body,
    camera: Camera,
    model: Any,
    pool: ThreadPoolExecutor,
) -> MeshTrack:
    times = np.flatnonzero(person.found)
    boxes = person.boxes[times]
    found: list[list[np.ndarray]] = []
    for first in range(0, len(times), BATCH):
        some = slice(first, first + BATCH)
        crops = np.stack(
            list(
                pool.map(
                    lambda at: crop_person(frames[at[0]], at[1]), zip(times[some], boxes[some], strict=True)
                )
            )
        )
        found.append(estimate(model, crops))
    rotations, betas, cameras = (np.concatenate(part) for part in zip(*found, strict=True))
    translation = place_in_frame(cameras, boxes, (camera.height, camera.width), camera.focal)
    posed = BodyPose.of_local(body, rotations, betas, translation)
    count = len(frames)

    def spread(values: np.ndarray) -> np.ndarray:
        out = np.full((count, *values.shape[1:]), np.nan)
        out[times] = values
        return out

    pose = BodyPose(spread(posed.rotations), spread(posed.places), spread(posed.shape))
    vertices = np.full((count, *body.template.shape), np.nan, np.float32)
    vertices[times] = body.pose_vertices(posed)
    unknown = np.full(count, np.nan)
    return MeshTrack(index, vertices, person.found, unknown, unknown.copy(), pose)


@torch.inference_mode()
def estimate(model: Any, crops: np.ndarray) -> list[np.ndarray]:
    """Local rotations [M, 24, 3, 3], betas [M, 10] and crop cameras [M, 3], float64, of crops [M, 3, 256, 256]."""
    device = model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        out = model(pixel_values=torch.from_numpy(crops).to(device))
    rotations = torch.cat([out.global_orient, out.body_pose], dim=1)
    return [value.double().cpu().numpy() for value in (rotations, out.betas, out.pred_cam)]


@lru_cache(maxsize=1)
def load_tokenhmr(source: str | None, device: str) -> Any:
    """The converted network.

    Args:
        source: its folder; None for the default one in the cache.
        device: as torch names it.

    Raises:
        AssetError: if there is none, or it is another model's; the message says how to make it.
    """
    from safetensors import SafetensorError

    from anthrotap_hf.models.tokenhmr import TokenHMRForHumanMeshRecovery

    folder = cache_dir() / "tokenhmr" if source is None else Path(source)
    way_out = CONVERT.format(folder=folder)
    if not (folder / "config.json").is_file():
        raise AssetError(f"{folder}: there is no converted TokenHMR; {way_out}")
    try:
        with quietly():
            model = TokenHMRForHumanMeshRecovery.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise AssetError(f"{folder} holds no converted TokenHMR ({reason}); {way_out}") from error
    return model.to(device).eval()
