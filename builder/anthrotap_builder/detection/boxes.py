"""People as boxes: detected by any object detector of transformers, tracked by ByteTrack.

For mesh sources that need boxes alone. There are no landmarks and no masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.detection.association import MAX_GAP, MIN_FRAMES
from anthrotap_builder.detection.blazepose_networks import suppress
from anthrotap_builder.utils.assets import AssetError
from anthrotap_builder.utils.torch_threads import one_torch_thread, quietly

# Frames that the network is given at once.
BATCH = 8
# ByteTrack: a detection of the first probability may begin a track, one of the second go on with it.
SCORE_THRESHOLD = 0.5
LOW_SCORE_THRESHOLD = 0.1
# A link needs this IoU with the predicted box. Two boxes of one frame with a larger IoU than the second are one person.
LINK_IOU = 0.25
DUPLICATE_IOU = 0.8
# Longest gap of a track, frames, in which its boxes are interpolated.
MAX_INTERPOLATED = 5

_HINT = "set detection.detector_model to a folder or Hub id of an object detector of transformers"
_DAMAGE = (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError)

Boxes = tuple[np.ndarray, np.ndarray]
"""The persons of one frame: boxes [n, 4] float32, x0, y0, x1, y1 in raster pixels, and probabilities [n] float32."""


def detect_people(context: ClipContext) -> list[PersonTrack]:
    """Detect and track people; see `anthrotap_builder.detection.detect_people`."""
    # If it is missing, fail before the work.
    require_byte_track()
    frames, settings = context.frames, context.config.detection
    detect = load_detector(settings.detector_model, context.device)
    batches = [frames[first : first + BATCH] for first in range(0, len(frames), BATCH)]
    with one_torch_thread(), ThreadPoolExecutor(context.threads) as pool:
        found = [boxes for batch in pool.map(detect, batches) for boxes in batch]
    height, width = frames.shape[1:3]
    return track_boxes(found, (height, width), settings.high_score_threshold)


def track_boxes(found: Sequence[Boxes], size: tuple[int, int], high_score_threshold: float) -> list[PersonTrack]:
    """Link boxes of single frames into people, by position and motion alone.

    ByteTrack (Zhang et al., ECCV 2022) predicts where each person's box goes, links probable boxes first and improbable
    ones to the tracks that are left, and starts a track only with a probable one. Boxes are kept as they were detected;
    in gaps of at most MAX_INTERPOLATED frames they are interpolated linearly.

    Args:
        found: the boxes of each frame.
        size: height and width of the frames; boxes end at their edges.
        high_score_threshold: a track needs one box of this probability.

    Returns:
        One track a person, longest first; empty if no person is found.

    Raises:
        ImportError: if edgefirst-tracker is absent.
    """
    # Its clock counts nanoseconds; ours frames.
    tracker = require_byte_track()(high_conf=SCORE_THRESHOLD, iou=LINK_IOU, lifespan_ns=MAX_GAP)
    people: dict[str, dict[int, tuple[np.ndarray, float]]] = {}
    for t, (boxes, scores) in enumerate(found):
        boxes, scores = _suppress_duplicates(boxes, scores, size)
        for link, box, score in zip(
            tracker.update(boxes, scores, np.zeros(len(boxes), np.uintp), t), boxes, scores, strict=True
        ):
            if link is not None:
                people.setdefault(link.uuid, {})[t] = box, float(score)
    tracks = [
        track
        for track in people.values()
        if len(track) >= MIN_FRAMES and max(score for _, score in track.values()) >= high_score_threshold
    ]
    tracks.sort(key=lambda track: (-len(track), min(track)))
    return [PersonTrack(_interpolated(track, len(found))) for track in tracks]


def require_byte_track() -> Any:
    try:
        from edgefirst.tracker import ByteTrack
    except ImportError as error:
        raise ImportError(
            "people by an object detector need edgefirst-tracker: pip install 'anthrotap[detector]'",
            name=error.name,
        ) from error
    return ByteTrack


def _suppress_duplicates(boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int]) -> Boxes:
    """Clip boxes to the frame, and drop those outside or of the same person as a better one."""
    height, width = size
    boxes = np.clip(boxes.reshape(-1, 4), 0, [width, height, width, height]).astype(np.float32)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores = boxes[inside], scores[inside].astype(np.float32)
    best = [group[0] for group in suppress(boxes, scores, DUPLICATE_IOU)]
    return boxes[best], scores[best]


def _interpolated(track: dict[int, tuple[np.ndarray, float]], num_frames: int) -> np.ndarray:
    """Return a track's boxes, [T, 4] float32, interpolated in short gaps; NaN where it has none."""
    boxes = np.full((num_frames, 4), np.nan, np.float32)
    known = sorted(track)
    boxes[known] = [track[t][0] for t in known]
    for before, after in pairwise(known):
        if 1 < after - before <= MAX_INTERPOLATED + 1:
            fraction = np.arange(1, after - before)[:, None] / (after - before)
            boxes[before + 1 : after] = (1 - fraction) * boxes[before] + fraction * boxes[after]
    return boxes


def load_detector(
    name: str, device: str, min_score: float = LOW_SCORE_THRESHOLD
) -> Callable[[np.ndarray], list[Boxes]]:
    """Load a detector of persons, from a folder or the Hub.

    Args:
        name: folder or Hub id of any model that transformers' AutoModelForObjectDetection reads.
        device: where it runs, as torch names it.
        min_score: less probable boxes are dropped.

    Returns:
        A function that detects the persons of each of a batch of frames, [B, H, W, 3] uint8 RGB. Several threads may
        call it at once.

    Raises:
        AssetError: if it cannot be fetched or read, is no object detector, or knows no persons.
    """
    model, processor = _load(name, device)
    persons = [index for index, label in model.config.id2label.items() if label.lower() == "person"]
    if not persons:
        known = list(model.config.id2label.values())
        first = f"{', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
        raise AssetError(f"the detector has no class 'person' among its {len(known)}: {first}", path=name, hint=_HINT)
    on_gpu = torch.device(device).type == "cuda"

    def detect(frames: np.ndarray) -> list[Boxes]:
        inputs = processor(images=list(frames), return_tensors="pt").to(device)
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=on_gpu):
            outputs = model(**inputs)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        results = processor.post_process_object_detection(
            outputs, threshold=min_score, target_sizes=[frames.shape[1:3]] * len(frames)
        )
        return [_persons(result, persons) for result in results]

    return detect


def _persons(result: dict[str, torch.Tensor], persons: list[int]) -> Boxes:
    boxes, scores, labels = (result[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
    chosen = np.isin(labels, persons)
    return boxes[chosen], scores[chosen]


@cache
def _load(name: str, device: str) -> tuple[Any, Any]:
    """Return the model and its image processor, loaded once a process."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    hint = (
        _HINT
        if Path(name).exists()
        else f"on a machine with network run `hf download {name} --local-dir FOLDER`, and set "
        "detection.detector_model to that folder"
    )
    try:
        with quietly():
            model, report = AutoModelForObjectDetection.from_pretrained(name, output_loading_info=True)
        # By PIL also where torchvision is installed: boxes must not depend on that.
        processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    except (*_DAMAGE, SafetensorError, StrictDataclassError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AssetError(f"cannot load the detector ({reason})", path=name, hint=hint) from error
    if missing := sorted(report["missing_keys"]):
        reason = f"it lacks {len(missing)} of the detector's weights, {missing[0]} first"
        raise AssetError(reason, path=name, hint=hint)
    return model.eval().requires_grad_(False).to(device), processor
