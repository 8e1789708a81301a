"""The rendered sets on which labels are evaluated, in groups; each has a half for tuning and a half held out."""

from __future__ import annotations

from pathlib import Path

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import decode_video, write_video
from benchmarks.synthetic.bad_input.clips import BAD_INPUT_CLIPS
from benchmarks.synthetic.bad_input.staged import StagedScene, render_staged
from benchmarks.synthetic.clip_spec import HALVES, ClipSpec
from benchmarks.synthetic.code_version import RENDERER, code_hash
from benchmarks.synthetic.ground_truth import GroundTruth
from benchmarks.synthetic.hard_set.clips import HARD_CLIPS
from benchmarks.synthetic.renderer import RenderedClip, render_scene
from benchmarks.synthetic.standard_set import STANDARD_CLIPS

_HARD = (
    *("clip_spec.py", "tracking_set/camera.py"),
    *(f"hard_set/{name}.py" for name in ("cameras", "clips", "couples", "motions", "touch")),
)
# The clips of each group, and the files, besides the renderer's, that decide what they look like.
GROUPS: dict[str, tuple[list[ClipSpec], tuple[str, ...]]] = {
    "standard": (STANDARD_CLIPS, ("clip_spec.py", "standard_set.py")),
    "hard": (HARD_CLIPS, _HARD),
    "bad_input": (BAD_INPUT_CLIPS, (*_HARD, "bad_input/clips.py", "bad_input/staged.py")),
}


def rendered_set(half: str | None = None, group: str | None = None) -> list[ClipSpec]:
    """Return the clips of a half and of a group, or of all of them.

    Raises:
        ValueError: if there is no such half or group; the message lists the known ones.
    """
    if half is not None and half not in HALVES:
        raise ValueError(f"no half {half!r}: choose from {', '.join(HALVES)}")
    if group is not None and group not in GROUPS:
        raise ValueError(f"no group {group!r}: choose from {', '.join(GROUPS)}")
    specs = [spec for name, (clips, _) in GROUPS.items() if group in (None, name) for spec in clips]
    return [spec for spec in specs if half in (None, spec.half)]


def load_clip(spec: ClipSpec, folder: Path, threads: int = 2) -> RenderedClip:
    """Load a clip of the set as it is labeled, decoded from its mp4; render it into `folder` on first use.

    Files of other versions of the renderer are neither used nor removed: each version has a folder of its
    own.

    Raises:
        ValueError: if the scene has another rate than the clip.
    """
    home = Path(folder) / f"{spec.group}-{renderer_version(spec.group)}"
    video, truth = home / f"{spec.name}.mp4", home / f"{spec.name}.npz"
    if not truth.exists():
        scene = spec.build()
        if scene.fps != spec.fps:
            raise ValueError(f"{spec.name}: its scene has {scene.fps:g} frames a second, not {spec.fps:g}")
        clip = render_staged(scene, threads) if isinstance(scene, StagedScene) else render_scene(scene, threads)
        # The ground truth is written last: where it exists, the video does.
        with atomic_write(video) as tmp_path:
            write_video(tmp_path, clip.frames, clip.fps, spec.crf)
        with atomic_write(truth) as tmp_path:
            clip.truth.save(tmp_path)
    return RenderedClip(decode_video(video), spec.fps, GroundTruth.load(truth))


def renderer_version(group: str) -> str:
    """Return a hash of the code, without its comments, that decides what the clips of a group look like."""
    return code_hash((*RENDERER, *GROUPS[group][1]))
