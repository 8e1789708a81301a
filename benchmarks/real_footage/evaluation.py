"""How accurate labels are on real videos, by three references that do not depend on body models.

Two synchronized cameras record one person; each view is labeled by itself.

- **Two views**: the rays through the two labels of one surface point must meet (`two_views`).
- **Skin markers**: labels must move as a marker next to them moves (`markers`).
- **Masks**: labels must lie on a person in the segmentation of another network (`masks`).

Clips are labeled whole, not in pieces of `clips.clip_frames`, so that lags of 48 frames exist; nothing else
differs from `anthrotap label`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.config import LabelingConfig
from benchmarks.real_footage.markers import compare_with_markers, markers_of
from benchmarks.real_footage.masks import compare_with_mask
from benchmarks.real_footage.two_views import compare_views, read_qca
from benchmarks.real_footage.views import label_view

CALIBRATION = "balance_cameras.qca.txt"
# The second view is as its camera gave it, 1088x1920. The first is 1080 wide: the camera's picture scaled to 1080x1906
# between black bars. Registered to Pose2Sim's full-size still of that camera (710 matches) it is off by 0.05 pixel.
VIEWS = {"balance_cam01.mp4": "cam01", "balance_cam03.mp4": "cam03"}
# Videos, besides the two views, that are compared with masks, and how many of their frames.
MASK_VIDEOS = ("juggle.mp4", "upper_body.mkv", "bedroom.mp4")
MASK_FRAMES = 48


def evaluate_real_footage(
    folder: str | Path,
    config: LabelingConfig | None = None,
    threads: int = 2,
    on_step: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Label the real clips, and compare the labels with the three references.

    Args:
        folder: where the clips and the calibration lie (`VIEWS`, `MASK_VIDEOS`, `CALIBRATION`).
        config: of the labeling; the open default if None.
        threads: frames processed at once.
        on_step: called with what is being done.

    Returns:
        A dict that JSON can hold: `label_version`, `two_views` (see `judge_two_views`), `markers` by video (see
        `judge_by_markers`) and `masks` by video (see `judge_by_mask`).

    Raises:
        ValueError: if a file is missing or unusable; one line that names it.
        AssetError: if a network file is not to be had.
    """
    folder, config = Path(folder), config or LabelingConfig()
    say = on_step or (lambda _: None)
    missing = [name for name in (CALIBRATION, *VIEWS, *MASK_VIDEOS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder}: {', '.join(missing)} not found; name the folder of the real clips (its README says whence)"
        )
    calibration = read_qca(folder / CALIBRATION)
    cameras, views = [], []
    for name, camera in VIEWS.items():
        if camera not in calibration:
            raise ValueError(f"{folder / CALIBRATION}: has no camera {camera}, only {', '.join(calibration)}")
        say(f"labeling {name}")
        view = label_view(folder / name, config, threads)
        if not np.isfinite(view.xy).any():
            raise ValueError(f"{view.path}: no person was found, so there is nothing to compare between the views")
        views.append(view)
        cameras.append(calibration[camera].fitted_into(view.width, view.height))
    if len({view.xy.shape[2] for view in views}) > 1:
        raise ValueError(f"{folder}: {' and '.join(VIEWS)} differ in their number of frames, so are not in step")
    say("two views")
    two_views = compare_views(views[0], views[1], cameras[0], cameras[1])

    markers, masks = {}, {}
    for view, person in zip(views, two_views["people"], strict=True):
        say(f"markers of {view.path.name}")
        found = markers_of(view, person)
        markers[view.path.name] = compare_with_markers(view, person, found)
        say(f"mask of {view.path.name}")
        masks[view.path.name] = compare_with_mask(view, threads, found)
    for name in MASK_VIDEOS:
        say(f"labels and mask of {name}")
        masks[name] = compare_with_mask(label_view(folder / name, config, threads, MASK_FRAMES), threads)
    return {
        "label_version": config.version(),
        "two_views": two_views,
        "markers": markers,
        "masks": masks,
    }
