"""TokenHMR's bodies: each person's box in each frame, by itself (the paper's mesh source; licensed files)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from anthrotap_builder.bodies.body import Body, BodyPose
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.crops import CROP, crop_person, has_crop, place_in_frame
from anthrotap_builder.mesh_recovery.problem import body_model
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.utils.assets import AssetError, find_tokenhmr, tokenhmr_hint
from anthrotap_builder.utils.torch_threads import one_torch_thread, quietly

BATCH = 8  # crops that the network sees at once, in each thread


def recover_meshes(context: ClipContext, people: list[PersonTrack]) -> list[MeshTrack]:
    """Everyone's bodies in the frames where their box shows some of the frame, and the network a body in it.

    The network tells depth by the focal length that it was trained with; that of `camera` takes its place, and the
    bodies stay where they are in the picture.

    Args:
        context: the clip; its body is SMPL.
        people: whose boxes the network looks into.

    Raises:
        AssetError: if there is no converted network.
    """
    if not people:
        return []
    frames, body = context.frames, body_model(context)
    model = load_tokenhmr(context.config.tokenhmr, context.device)
    times = [np.flatnonzero(has_crop(person.boxes, frames.shape[1:3])) for person in people]
    looks = [(t, person.boxes[t]) for person, at in zip(people, times, strict=True) for t in at]

    def look(batch: list[tuple[int, np.ndarray]]) -> list[np.ndarray]:
        crops = [crop_person(frames[t], box) for t, box in batch]
        return estimate(model, np.stack(crops) if crops else np.empty((0, 3, CROP, CROP), np.float32))

    batches = [looks[first : first + BATCH] for first in range(0, len(looks), BATCH)] or [[]]
    with one_torch_thread(), ThreadPoolExecutor(context.threads) as pool:
        parts = zip(*pool.map(look, batches), strict=True)
    ends = np.cumsum([len(at) for at in times])[:-1]
    rotations, betas, cameras = (np.split(np.concatenate(part), ends) for part in parts)
    return [
        _track(index, *found, body, context.camera)
        for index, found in enumerate(zip(people, times, rotations, betas, cameras, strict=True))
    ]


def _track(
    index: int,
    person: PersonTrack,
    times: np.ndarray,
    rotations: np.ndarray,
    betas: np.ndarray,
    cameras: np.ndarray,
    body: Body,
    camera: Camera,
) -> MeshTrack:
    """One person's meshes from what the network says of the frames `times`."""
    ahead = cameras[:, 0] > 0  # a scale below zero would put the body behind the camera
    times, rotations, betas, cameras = times[ahead], rotations[ahead], betas[ahead], cameras[ahead]
    translation = place_in_frame(cameras, person.boxes[times], (camera.height, camera.width), camera.focal)
    posed = BodyPose.of_local(body, rotations, betas, translation)
    count = len(person.boxes)

    def spread(values: np.ndarray) -> np.ndarray:
        out = np.full((count, *values.shape[1:]), np.nan, values.dtype)
        out[times] = values
        return out

    pose = BodyPose(spread(posed.rotations), spread(posed.positions), spread(posed.shape))
    present = np.zeros(count, bool)
    present[times] = True
    unknown = np.full(count, np.nan)
    return MeshTrack(index, spread(body.pose_vertices(posed)), present, unknown, unknown.copy(), pose)


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
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import PreTrainedConfig

    from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery

    folder = find_tokenhmr(source)
    try:
        settings, _ = PreTrainedConfig.get_config_dict(folder, local_files_only=True)
        kind = settings.get("model_type")
        if kind != TokenHMRConfig.model_type:  # transformers would load it all the same, with random weights
            raise ValueError(f"it is of type {kind}")
        with quietly():
            model, report = TokenHMRForHumanMeshRecovery.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
        if missing := sorted(report["missing_keys"]):
            raise ValueError(f"it lacks {len(missing)} of the weights, {missing[0]} first")
    except (
        *(OSError, ValueError, RuntimeError, LookupError, TypeError),
        *(SafetensorError, StrictDataclassError),
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise AssetError(
            f"{folder} holds no converted TokenHMR ({reason}); {tokenhmr_hint(folder)}"
        ) from error
    return model.to(device).eval()
