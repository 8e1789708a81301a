"""Everything that changes a label, in one documented place; its hash is the label version."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Set
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    model_validator,
)

from anthrotap_builder.bodies.smpl import MODELS, find_model_file
from anthrotap_builder.utils.assets import find_tokenhmr
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.settings import Settings, read_recipe

RECIPES = Path(__file__).parent / "recipes"
LABEL_CODE_VERSION = 3  # raise it when the code changes labels under the same configuration


S = TypeVar("S", bound=Settings)


def _identity(source: str, info: SerializationInfo) -> str:
    path = Path(source)
    return f"sha256:{_content_hash(path)}" if info.context == BY_CONTENT and path.exists() else source


def _content_hash(path: Path) -> str:
    """Of a file; of a folder, over names and contents of the files in it."""
    if path.is_dir():
        parts = [
            f"{file.relative_to(path).as_posix()} {_content_hash(file)}"
            for file in sorted(path.rglob("*"))
            if file.suffix in (".json", ".safetensors", ".bin")  # a README changes no label
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    state = path.stat()
    return _file_hash(path, state.st_mtime_ns, state.st_size)


@cache  # a version is asked for with each row
def _file_hash(path: Path, mtime_ns: int, size: int) -> str:
    return file_sha256(path)


def _registered(module: str, table: str, *others: str) -> AfterValidator:
    """A name in the registry of a stage, which is imported only for names that somebody gives; or one of `others`."""

    def check(name: str) -> str:
        known = [*getattr(import_module(f"anthrotap_builder.{module}"), table), *others]
        if name not in known:
            raise ValueError(f"{name!r} is not known: choose from {', '.join(sorted(known))}")
        return name

    return AfterValidator(check)


BY_CONTENT = "by content"
"""As `context` of a dump: sources are told by what they hold."""

Source = Annotated[str, AfterValidator(os.path.expanduser), PlainSerializer(_identity)]
"""A file or folder of this machine, or a name on a hub. In the label version and the manifest a path stands as the
SHA-256 of what is there, so labels are the same wherever the files lie, and others where the files are others."""


def _without_others(settings: S, choice: str, own: Set[str]) -> S:
    """The settings, if all that are not the choice's own have their defaults."""
    # Not told by model_fields_set: a dump sets all fields, and must read back.
    ignored = [
        name
        for name, field in type(settings).model_fields.items()
        if name not in own and getattr(settings, name) != field.default
    ]
    if ignored:
        raise ValueError(f"{choice} does not use {', '.join(ignored)}")
    return settings


class ClipSettings(Settings):
    """How a video is cut into clips."""

    short_side: int = Field(480, ge=64, le=4320, description="labeling size, also of the stored clip: pixels")
    fps: float | None = Field(
        None, gt=0, description="resample to this rate (the paper: 10); None keeps all frames"
    )
    clip_frames: int = Field(48, ge=2, description="longest clip, frames")
    min_frames: int = Field(
        8, ge=2, description="shorter pieces between two shot changes are left out, frames"
    )
    shot_threshold: float = Field(27.0, gt=0, description="scenedetect ContentDetector threshold")


class FitSettings(Settings):
    """How a body is fitted to a person's track. Angles in radians; rates are those of 30 frames a second."""

    sigma_2d: float = Field(0.012, gt=0, description="2D landmark error as a share of the person's size")
    sigma_3d: float = Field(0.06, gt=0, description="3D landmark error, meters")
    sigma_silhouette: float = Field(0.008, gt=0, description="mask error as a share of the person's size")
    silhouette_points: int = Field(160, ge=1, description="surface points that must stay inside the mask")
    silhouette_weight: float = Field(60.0, ge=0, description="how many landmarks the silhouette counts for")
    sigma_limit: float = Field(0.1, gt=0, description="softness of joint limits")
    shape_weight: float = Field(1 / 16, gt=0, description="weight of the shape prior for each frame")
    sigma_acceleration: float = Field(0.10, gt=0, description="of joint rotations, radians a frame^2")
    sigma_velocity: float = Field(1.0, gt=0, description="of joint rotations, radians a frame")
    sigma_place_acceleration: float = Field(0.03, gt=0, description="of the root's place, meters a frame^2")
    landmark_iterations: int = Field(14, ge=1)
    silhouette_iterations: int = Field(4, ge=0)
    flow_points: int = Field(
        240, ge=0, description="surface points whose flow the fit agrees with; 0: no flow"
    )
    flow_weight: float = Field(
        240.0, ge=0, description="how many landmarks flow counts for in each frame pair"
    )
    sigma_flow: float = Field(
        0.45, gt=0, description="flow error, pixels of a frame with a short side of 256"
    )
    fb_threshold: float = Field(0.8, gt=0, description="going and coming back may err by; same pixels")
    flow_iterations: int = Field(4, ge=1, description="steps after the measurement of flow")
    tolerance: float = Field(3e-3, gt=0, description="relative gain at which iterations end")
    max_reprojection_error: float = Field(
        0.06, gt=0, description="frames above it are refused; share of the size"
    )
    min_mask_overlap: float = Field(
        0.45, ge=0, le=1, description="frames below it are refused; IoU with the mask"
    )
    max_refused: float = Field(
        0.3, ge=0, le=1, description="who has a larger share of refused frames is nobody"
    )


class RefineSettings(Settings):
    """How far a mesh source's bodies may be off. Mask, flow and smoothness weigh as in the fit."""

    sigma_rotation: float = Field(0.15, gt=0, description="of each joint's rotation, radians")
    sigma_place: float = Field(0.05, gt=0, description="of the root's place, right and down, meters")
    sigma_depth: float = Field(0.3, gt=0, description="of the root's depth, meters")
    sigma_shape: float = Field(1.0, gt=0, description="of the shape, in the body's standard deviations")


class PeopleSettings(Settings):
    """How persons are found and told apart. An option that would change nothing with the detector is an error."""

    detector: Annotated[str, _registered("detection", "DETECTORS")] = Field(
        "blazepose",
        description="blazepose: boxes, landmarks and masks; boxes: any "
        "object detector of transformers, and ByteTrack",
    )
    detector_model: Source = Field(
        "ustc-community/dfine-medium-coco",
        description="boxes: folder or Hub id of the detector; this one is D-FINE, Apache-2.0",
    )
    min_weak_detection: float = Field(
        0.1, ge=0, le=1, description="boxes: a weaker detection, of this probability, may go on with a track"
    )
    min_box_overlap: float = Field(
        0.25, ge=0, le=1, description="boxes: IoU with the predicted box that a link needs"
    )
    same_box: float = Field(
        0.8, ge=0, le=1, description="boxes: two of one frame with a larger IoU are one person"
    )
    max_filled: int = Field(
        5, ge=0, description="boxes: longest gap of a track, frames, in which they are interpolated"
    )
    detect_every: int = Field(
        4, ge=1, description="the detector runs on every n-th frame; between, people are followed"
    )
    min_detection: float = Field(0.5, ge=0, le=1, description="detector probability that makes a detection")
    sure_detection: float = Field(0.75, ge=0, le=1, description="a track needs one detection this probable")
    min_detections: int = Field(2, ge=1, description="a track needs so many detections by the detector")
    min_pose_score: float = Field(
        0.5, ge=0, le=1, description="landmark network's probability of a person there"
    )
    min_confidence: float = Field(0.3, ge=0, le=1, description="mean landmark confidence of a detection")
    min_track_confidence: float = Field(
        0.6, ge=0, le=1, description="the same over a whole track: pictures have less"
    )
    min_inside: float = Field(
        0.3, ge=0, le=1, description="share of a detection's joints that lie in the frame"
    )
    min_frames: int = Field(8, ge=1, description="shorter tracks are dropped, frames")
    max_missed: int = Field(2, ge=0, description="following goes on past so many frames where it sees nobody")
    max_gap: int = Field(12, ge=1, description="longest time unseen that one track may bridge, frames")
    min_link: float = Field(
        0.3, ge=0, le=1, description="pose similarity to the prediction that a link needs"
    )
    joint_tolerance: float = Field(
        0.08, gt=0, description="a joint so far off, in body sizes, counts exp(-1/2)"
    )
    joint_motion: float = Field(
        0.03, ge=0, description="how much of it each frame between two detections adds"
    )
    max_look: float = Field(
        0.7, ge=0, le=1, description="a link may change the colors by this Hellinger distance"
    )
    appearance_weight: float = Field(
        0.5, ge=0, description="cost of wholly other colors, of a wholly other pose: 1"
    )
    max_apart: int = Field(
        2, ge=0, description="tracks that meet are one if they differ in at most so many frames"
    )
    max_painted: float = Field(
        0.5, ge=0, le=1, description="a pose with a larger share on people found is no other"
    )
    same_pose: float = Field(
        0.6, ge=0, le=1, description="two poses of one frame more similar are one person"
    )
    same_place: float = Field(
        0.6, ge=0, le=1, description="or two masks, by the share of the smaller one inside"
    )
    rounds: int = Field(
        3, ge=1, description="searches; each paints over who was found, to see who stands behind"
    )

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        boxes_only = {"detector_model", "min_weak_detection", "min_box_overlap", "same_box", "max_filled"}
        of_boxes = {*boxes_only, "detector", "min_detection", "sure_detection", "min_frames", "max_gap"}
        of_others = type(self).model_fields.keys() - boxes_only
        return _without_others(self, self.detector, of_boxes if self.detector == "boxes" else of_others)


class VisibilitySettings(Settings):
    """What is seen; and when seen or hidden hangs by a thread, and the label is unknown."""

    rays: bool = Field(
        True, description="cast rays; false: every point in the frame passes for seen (for ablations)"
    )
    grazing: float = Field(
        0.3, ge=0, le=1, description="cosine to the surface's normal below which it is grazed"
    )
    contour_pixels: float = Field(2.0, ge=0, description="contours may be off by so much; short side of 256")
    hidden_around: int = Field(
        0, ge=0, le=4, description="of the four places beside a hidden point so many must be hidden too"
    )
    lift: float = Field(
        0.03, ge=0, description="how much nearer to the camera the places beside a point are, meters"
    )


_NO_RAYS = VisibilitySettings(rays=False, grazing=0, contour_pixels=0, lift=0)


class FlowSettings(Settings):
    """Which optical flow. An option of one that would change nothing under the other is an error."""

    model: Annotated[str, _registered("flow", "FLOWS")] = Field(
        "dis", description="dis: OpenCV's DIS; raft: torchvision's RAFT"
    )
    preset: Literal["ultrafast", "fast", "medium"] = Field("fast", description="DIS preset")
    raft_size: Literal["small", "large"] = Field("large", description="which of RAFT's two networks")
    raft_iterations: int = Field(12, ge=1, description="RAFT's updates of its estimate")
    tile: int = Field(
        1024, ge=128, description="RAFT sees frames with longer sides in tiles of this side, pixels"
    )
    weights: Source | None = Field(
        None,
        description="file with RAFT's weights (a state_dict of torchvision's model); None: its released ones",
    )

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        of_raft = {"raft_size", "raft_iterations", "tile", "weights"}
        own = {"dis": {"preset"}, "raft": of_raft}.get(self.model, set())
        return _without_others(self, self.model, {"model", *own})


class FilterSettings(Settings):
    """When a label is trusted. Pixels are those of a frame with a short side of 256, scaled to the frame at hand."""

    masks: bool = Field(
        True, description="seen labels must lie in their person's mask, hidden ones in anyone's"
    )
    rule: Literal["none", "steps", "drift"] = Field(
        "drift",
        description="none: flow refuses nothing; steps: single steps in which mesh and reliable flow differ, as the "
        "paper does; drift: also where the signed difference, summed along the track, does not stay together",
    )
    fb_threshold: float = Field(0.7, ge=0, description="flow is reliable if going and coming back err less")
    step_pixels: float = Field(1.0, ge=0, description="mesh and flow may differ in one step by this much")
    step_relative: float = Field(0.25, ge=0, description="and this share of the motion")
    drift_pixels: float = Field(1.5, ge=0, description="radius within which the summed difference must stay")
    min_track_share: float = Field(
        0.3, ge=0, le=1, description="tracks with a smaller share of valid labels are dropped"
    )
    hidden_reach: int = Field(24, ge=0, description="a hidden label needs a valid seen one this near, frames")


class LabelingConfig(Settings):
    """Everything that changes a label."""

    clips: ClipSettings = ClipSettings()
    people: PeopleSettings = PeopleSettings()
    body: Annotated[str, _registered("bodies", "BODIES", "mesh")] = Field(
        "anny",
        description="body model; mesh: none, whatever surface a file of meshes has; smpl, smplh, smplx and smal (for "
        "animals, without a fit) are files that you bring: see anthrotap_builder.bodies.smpl",
    )
    gender: Literal["neutral", "male", "female"] = Field("neutral", description="of smpl, smplh and smplx")
    body_file: Path | None = Field(
        None,
        description="body model file, or a folder of them. In the label version it stands as the SHA-256 of the file",
    )
    mesh_source: Annotated[str, _registered("mesh_recovery", "MESH_SOURCES", "file")] = Field(
        "fit",
        description="fit: of the body to landmarks, mask and flow; tokenhmr: the paper's network; file: meshes that "
        "come with the video",
    )
    tokenhmr: Source | None = Field(
        None, description="tokenhmr: folder of the converted network; None: `tokenhmr` in the cache"
    )
    focal_ratio: float = Field(1.2, gt=0, description="focal length as a multiple of the frame's longer side")
    fit: FitSettings = FitSettings()
    refine: RefineSettings | None = Field(
        None,
        description="let the fit refine a mesh source's bodies with mask and flow; None: keep them as they are",
    )
    points: int = Field(1024, ge=1, description="surface points a person")
    seed: int = Field(0, description="of the surface points")
    min_visible: int = Field(4, ge=1, description="tracks seen in fewer frames are dropped")
    visibility: VisibilitySettings = VisibilitySettings()
    flow: FlowSettings = FlowSettings()
    filter: FilterSettings = FilterSettings()

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Self:
        if self.refine and self.mesh_source == "fit":
            raise ValueError("refine is for other mesh sources: the fit has seen mask and flow already")
        if self.mesh_source == "tokenhmr" and self.body != "smpl":
            raise ValueError("mesh_source: tokenhmr gives SMPL's parameters; set body: smpl")
        if self.tokenhmr is not None and self.mesh_source != "tokenhmr":
            raise ValueError(f"mesh_source: {self.mesh_source} does not use tokenhmr")
        if self.people.detector == "boxes" and self.looks_for_people:
            if self.mesh_source == "fit":
                raise ValueError(
                    "mesh_source: fit needs landmarks, which people.detector: boxes does not find"
                )
            if self.mesh_source == "file":
                raise ValueError(
                    "a file of meshes needs people.detector: blazepose, whose masks it is held against"
                )
            if self.filter.masks:
                raise ValueError(
                    "filter.masks needs masks, which people.detector: boxes does not find; set filter.masks: false, "
                    "or people.detector: blazepose"
                )
        if self.body == "mesh" and (self.mesh_source != "file" or self.refine):
            raise ValueError("body: mesh is for a file of vertices, which can't be fitted or refined")
        if self.body == "smal" and self.mesh_source == "fit":
            raise ValueError("body: smal is for a file of meshes: the fit knows no landmarks of animals")
        if not self.visibility.rays and self.visibility != _NO_RAYS:
            raise ValueError(
                "visibility.rays: false leaves nothing uncertain: set grazing, contour_pixels and lift to 0"
            )
        return self

    @model_validator(mode="after")
    def _body_takes_its_options(self) -> Self:
        if self.gender != "neutral" and self.body not in ("smpl", "smplh", "smplx"):
            raise ValueError(f"gender is for smpl, smplh and smplx; {self.body} has only neutral")
        if self.body_file is not None and self.body in ("anny", "mesh"):
            raise ValueError(f"body_file is for smpl, smplh, smplx and smal; {self.body} has none")
        if self.body_file is None and self.body == "smal":
            raise ValueError("smal needs body_file, the path of its model file")
        return self

    @property
    def looks_for_people(self) -> bool:
        """Whether people have to be found in the pictures: for their meshes, or for masks."""
        return self.mesh_source != "file" or self.filter.masks or self.refine is not None

    def described(self) -> dict[str, Any]:
        """All settings as JSON values, with no path of this machine: see `Source`.

        Raises:
            AssetError: if body or network are ones that users bring, and their files are missing.
        """
        values = self.model_dump(mode="json", context=BY_CONTENT)
        if self.body in MODELS:
            # The file, whether it was named or found where such files lie.
            found = find_model_file(self.body, self.gender, self.body_file)
            values["body_file"] = f"sha256:{_content_hash(found)}"
        if self.mesh_source == "tokenhmr":
            values["tokenhmr"] = f"sha256:{_content_hash(find_tokenhmr(self.tokenhmr))}"
        return values

    @property
    def version(self) -> str:
        """The label version: the same code version and settings give the same labels."""
        settings = json.dumps(self.described(), sort_keys=True)
        return f"{LABEL_CODE_VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def labeling_config(recipe: str | Path = "open", settings: Mapping[str, Any] | None = None) -> LabelingConfig:
    """The configuration of a recipe, with some settings changed.

    Args:
        recipe: a name of `RECIPES`, or the path of a YAML or JSON file; names and nesting are those of
            `LabelingConfig`, what is left out keeps its default.
        settings: changes to it, nested likewise: {"clips": {"fps": 10}, "points": 256}.

    Raises:
        ValueError: if there is no such recipe or setting, or a value is out of its range; the message is one line.
    """
    return read_recipe(LabelingConfig, RECIPES, recipe, settings)
