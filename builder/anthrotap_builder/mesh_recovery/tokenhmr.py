"""TokenHMR's bodies: each person's box in each frame by itself (the paper's mesh source; licensed files)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.mesh_recovery.crops import (
    CROP_SIZE,
    crop_person,
    crop_to_frame_translation,
    overlaps_frame,
)
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.utils.assets import AssetError, find_tokenhmr, tokenhmr_hint
from anthrotap_builder.utils.torch_threads import one_torch_thread, quietly
from anthrotap_hf.utils.errors import one_line

# Crops that the network takes at once, in each thread.
BATCH = 8


def recover_meshes(context: ClipContext, people: list[PersonTrack]) -> list[MeshTrack]:
    """Recover bodies in the frames in which a person's box overlaps the frame, and the network finds a body in it.

    The network's depth is that of the focal length that it was trained with; the camera's focal length takes its place,
    and the bodies keep their position in the image.

    Args:
        context: the clip; its body is SMPL. No result depends on the number of threads.
        people: whose boxes are cropped.

    Raises:
        AssetError: if there is no converted network.
    """
    if not people:
        return []
    frames = context.frames
    model = load_tokenhmr(context.config.tokenhmr, context.device)
    times = [np.flatnonzero(overlaps_frame(person.boxes, frames.shape[1:3])) for person in people]
    boxes = [(t, person.boxes[t]) for person, at in zip(people, times, strict=True) for t in at]

    def run(batch: list[tuple[int, np.ndarray]]) -> list[np.ndarray]:
        crops = [crop_person(frames[t], box) for t, box in batch]
        return estimate(model, np.stack(crops) if crops else np.empty((0, 3, CROP_SIZE, CROP_SIZE), np.float32))

    # Batches of all people together; an empty one gives outputs of the right shape where there is no box.
    batches = [boxes[first : first + BATCH] for first in range(0, len(boxes), BATCH)] or [[]]
    with one_torch_thread(), ThreadPoolExecutor(context.threads) as pool:
        outputs = [np.concatenate(part) for part in zip(*pool.map(run, batches), strict=True)]
    ends = np.cumsum([len(at) for at in times])
    tracks = []
    for person, (at, end) in enumerate(zip(times, ends, strict=True)):
        own = [output[end - len(at) : end] for output in outputs]
        tracks.append(_track(context, person, people[person].boxes, at, own))
    return tracks


def _track(
    context: ClipContext, person: int, boxes: np.ndarray, times: np.ndarray, outputs: list[np.ndarray]
) -> MeshTrack:
    """Return one person's meshes from what `estimate` gave for the frames `times`."""
    body, camera = context.body_model, context.camera
    # A scale below zero would put the body behind the camera.
    valid = outputs[2][:, 0] > 0
    times = times[valid]
    rotations, betas, crop_cameras = (output[valid] for output in outputs)
    translation = crop_to_frame_translation(crop_cameras, boxes[times], camera)
    posed = BodyPose.of_local(body, rotations, betas, translation)

    def over_clip(values: np.ndarray) -> np.ndarray:
        out = np.full((len(boxes), *values.shape[1:]), np.nan, values.dtype)
        out[times] = values
        return out

    pose = BodyPose(over_clip(posed.rotations), over_clip(posed.positions), over_clip(posed.shape))
    present = np.zeros(len(boxes), bool)
    present[times] = True
    unknown = np.full(len(boxes), np.nan)
    vertices = over_clip(body.pose_vertices(posed))
    return MeshTrack(person, vertices, present, unknown, unknown.copy(), pose)


@torch.inference_mode()
def estimate(model: Any, crops: np.ndarray) -> list[np.ndarray]:
    """Run the network on crops [M, 3, 256, 256].

    Returns:
        float64 local rotations [M, 24, 3, 3], betas [M, 10], and crop cameras [M, 3] as `crop_to_frame_translation`
        has them.
    """
    device = model.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        out = model(pixel_values=torch.from_numpy(crops).to(device))
    rotations = torch.cat([out.global_orient, out.body_pose], dim=1)
    return [value.double().cpu().numpy() for value in (rotations, out.betas, out.pred_cam)]


@lru_cache(maxsize=1)
def load_tokenhmr(source: str | None, device: str) -> Any:
    """Load the converted network.

    Args:
        source: its folder; None for the default one in the cache.
        device: as torch names it.

    Raises:
        AssetError: if there is none, or it is another model's; the hint says how to make it.
    """
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import PreTrainedConfig

    from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery

    folder = find_tokenhmr(source)
    try:
        settings, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
        kind = settings.get("model_type")
        # Transformers would load another model all the same, with random weights.
        if kind != TokenHMRConfig.model_type:
            raise ValueError(f"it is of type {kind}")
        with quietly():
            model = TokenHMRForHumanMeshRecovery.from_pretrained(folder, local_files_only=True)
    except (
        *(OSError, ValueError, RuntimeError, LookupError, TypeError),
        *(SafetensorError, StrictDataclassError),
    ) as error:
        reason = f"it holds no converted TokenHMR ({one_line(error, 200)})"
        raise AssetError(reason, path=folder, hint=tokenhmr_hint(folder)) from error
    return model.to(device).eval()
