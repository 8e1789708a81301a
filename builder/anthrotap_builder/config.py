"""The settings of labeling: everything that changes a label and that a user would tune.

Thresholds that stay as they are stand as constants beside the code that uses them; a change to one must raise
`LABEL_CODE_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Set
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    SerializationInfo,
    model_validator,
)

from anthrotap_builder.bodies.smpl_files import MODELS, find_model_file
from anthrotap_builder.registries import BODIES, DETECTORS, FLOWS, MESH_FORMATS, MESH_SOURCES
from anthrotap_builder.utils.assets import BLAZEPOSE, find_tokenhmr
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.registry import Registry
from anthrotap_hf.utils.settings import Settings, read_recipe

RECIPES = Path(__file__).parent / "recipes"
LABEL_CODE_VERSION = 10
"""Raise it when the code changes labels under the same settings."""

BY_CONTENT = "by content"
"""As `context` of a dump: write sources as the hash of their content."""


def _identity(source: str, info: SerializationInfo) -> str:
    path = Path(source)
    return f"sha256:{_content_hash(path)}" if info.context == BY_CONTENT and path.exists() else source


def _content_hash(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that over names and contents of the files in it."""
    if path.is_dir():
        parts = [
            f"{file.relative_to(path).as_posix()} {_content_hash(file)}"
            for file in sorted(path.rglob("*"))
            # Only these change a label: a README does not.
            if file.suffix in (".json", ".safetensors", ".bin")
        ]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    state = path.stat()
    return _file_hash(path, state.st_mtime_ns, state.st_size)


# A version is asked for with each row.
@cache
def _file_hash(path: Path, mtime_ns: int, size: int) -> str:
    return file_sha256(path)


def _name_in(registry: Registry | Mapping[str, object], *others: str) -> AfterValidator:
    """Accept the names of a registry, or the keys of a table, and `others`."""

    def check(name: str) -> str:
        known = [*registry, *others]
        if name not in known:
            raise ValueError(f"{name!r} is not known: choose from {', '.join(sorted(known))}")
        return name

    return AfterValidator(check)


Source = Annotated[str, AfterValidator(os.path.expanduser), PlainSerializer(_identity)]
"""A file or folder of this machine, or a name on a hub. The label version and the manifest have the SHA-256 of a path's
content in its stead, so that labels depend on what the files hold and not on where they lie."""


class _ChoiceSettings(Settings):
    """Settings of a part that is chosen by name: one that belongs to another choice must have its default."""

    CHOICE: ClassVar[str]
    """The setting that chooses."""
    OWN: ClassVar[Mapping[str, Set[str]]]
    """For each choice the settings that no other one uses."""

    @model_validator(mode="after")
    def _check_unused(self) -> Self:
        choice, fields = getattr(self, self.CHOICE), type(self).model_fields
        others = set[str]().union(*self.OWN.values()) - self.OWN.get(choice, set())
        # A dump sets all fields, and must read back: so `model_fields_set` cannot decide.
        unused = [name for name in fields if name in others and getattr(self, name) != fields[name].default]
        if unused:
            raise ValueError(f"{choice} does not use {', '.join(unused)}")
        return self


class ClipSettings(Settings):
    """How a video is cut into clips."""

    short_side: int = Field(480, ge=64, le=4320, description="short side of the labeled and stored frames, pixels")
    fps: float | None = Field(
        None,
        gt=0,
        description="store this many frames a second (the paper: 10); null stores all. Labels are made on the frames "
        "between the stored ones too",
    )
    clip_frames: int = Field(48, ge=2, description="longest clip, stored frames")
    deinterlace: bool = Field(True, description="make whole pictures of interlaced frames, by FFmpeg's bwdif")
    tone_map: bool = Field(True, description="bring video of high dynamic range (HLG, PQ) to the colors of BT.709")


class DetectionSettings(_ChoiceSettings):
    """How people are detected and tracked. A setting that the detector does not use is an error."""

    CHOICE = "detector"
    OWN = {"blazepose": {"quality", "num_passes", "detect_every"}, "boxes": {"detector_model"}}  # noqa: RUF012

    detector: Annotated[str, _name_in(DETECTORS)] = Field(
        "blazepose",
        description="blazepose: boxes, landmarks and masks; boxes: any object detector of transformers, and ByteTrack",
    )
    detector_model: Source = Field(
        "ustc-community/dfine-medium-coco",
        description="boxes: folder or Hub id of the detector; the default is D-FINE, Apache-2.0",
    )
    quality: Annotated[str, _name_in(BLAZEPOSE)] = Field(
        "best",
        description="blazepose: its landmark network: fast is its full network, best its heavy one, which takes three "
        "times as long and finds far more people rightly",
    )
    num_passes: int = Field(
        3,
        ge=1,
        description="blazepose: detection passes over the clip; each one masks out the people of those before, to "
        "find who stands behind them",
    )
    detect_every: int = Field(
        4,
        ge=1,
        description="blazepose: run the detector on every n-th frame, and track people in between; with 4, the "
        "landmark network looks at every second frame only where a person moves slowly",
    )
    high_score_threshold: float = Field(
        0.75, ge=0, le=1, description="a track needs one detection of at least this probability"
    )


class FlowSettings(_ChoiceSettings):
    """Which optical flow is used. A setting that the flow does not use is an error."""

    CHOICE = "model"
    OWN = {"dis": {"preset"}, "raft": {"raft_size", "weights"}}  # noqa: RUF012

    model: Annotated[str, _name_in(FLOWS)] = Field("dis", description="dis: OpenCV's DIS; raft: torchvision's RAFT")
    preset: Literal["ultrafast", "fast", "medium"] = Field("fast", description="dis: preset of OpenCV")
    raft_size: Literal["small", "large"] = Field("large", description="raft: which of its two networks")
    weights: Source | None = Field(
        None,
        description="raft: file with weights (a state_dict of torchvision's model); null: the released ones",
    )


class FilterSettings(Settings):
    """When a label is valid. Pixels are those of a frame with a short side of 256, scaled to the frame at hand."""

    masks: bool = Field(
        True,
        description="visible labels must lie in their person's mask, occluded ones in that of one who can hide them",
    )
    rule: Literal["none", "steps", "drift"] = Field(
        "drift",
        description="none: no check against flow; steps: reject single steps in which mesh and reliable flow differ, "
        "as the paper does; drift: follow their difference along the track, move labels by it to the point that the "
        "track is of, and reject them where that is uncertain",
    )
    fb_threshold: float = Field(
        0.7,
        ge=0,
        description="flow is reliable if its forward-backward error is at most this, pixels; by the rule drift, plus "
        "a tenth of its motion",
    )
    max_step_error: float = Field(1.0, ge=0, description="largest difference of mesh and flow in one step, pixels")
    max_drift: float = Field(
        1.5, ge=0, description="drift: radius within which labels of a track are taken to be of one point, pixels"
    )


class LabelingConfig(Settings):
    """All settings of labeling."""

    clips: ClipSettings = ClipSettings()
    detection: DetectionSettings = DetectionSettings()
    body: Annotated[str, _name_in(BODIES, "mesh")] = Field(
        "anny",
        description="body model; smpl, smplh, smplx and smal (animals, for files of meshes) are files that you bring: "
        "see anthrotap_builder.bodies.smpl; mesh: none, any surface that a file of meshes has",
    )
    gender: Literal["neutral", "male", "female"] = Field("neutral", description="of smpl, smplh and smplx")
    body_file: Path | None = Field(
        None, description="file of the body model, or a folder of them; null: where such files usually lie"
    )
    mesh_source: Annotated[
        str, _name_in(MESH_SOURCES, "file", *(f"file:{name}" for name in MESH_FORMATS if name != "anthrotap"))
    ] = Field(
        "fit",
        description="fit: of the body to landmarks, mask and flow; tokenhmr: the paper's network; file: meshes that "
        "come with the video; file:gvhmr: those of another program's file, by its format",
    )
    tokenhmr: Source | None = Field(
        None,
        description="folder of the converted TokenHMR network; null: the folder tokenhmr in the cache",
    )
    focal_ratio: float = Field(1.2, gt=0, description="focal length as a multiple of the frame's longer side")
    fit_flow: bool = Field(True, description="let the fit agree with optical flow")
    refine: bool = Field(False, description="refine the bodies of a mesh source other than fit with mask and flow")
    points: int = Field(1024, ge=1, description="surface points a person")
    seed: int = Field(0, description="of the surface points")
    min_visible: int = Field(3, ge=0, description="tracks that are visible in fewer stored frames are dropped")
    visibility: Literal["none", "rays", "margin"] = Field(
        "margin",
        description="none: every projected point counts as visible; rays: by ray casting; margin: by ray casting, and "
        "a point near a contour or seen at a grazing angle is invalid",
    )
    flow: FlowSettings = FlowSettings()
    filter: FilterSettings = FilterSettings()

    @model_validator(mode="after")
    def _stages_fit_together(self) -> Self:
        if self.refine and self.mesh_source == "fit":
            raise ValueError("refine is for other mesh sources: the fit uses mask and flow already")
        if self.mesh_source == "tokenhmr" and self.body != "smpl":
            raise ValueError("mesh_source: tokenhmr gives SMPL's parameters; set body: smpl")
        if self.tokenhmr is not None and self.mesh_source != "tokenhmr":
            raise ValueError(f"mesh_source: {self.mesh_source} does not use tokenhmr")
        if self.detection.detector == "boxes" and self.needs_detection:
            if self.mesh_source == "fit":
                raise ValueError("mesh_source: fit needs landmarks, which detection.detector: boxes does not find")
            if self.meshes_from_file:
                raise ValueError("a file of meshes needs detection.detector: blazepose, whose masks it is compared to")
            if self.filter.masks:
                raise ValueError(
                    "filter.masks needs masks, which detection.detector: boxes does not find; set filter.masks: false, "
                    "or detection.detector: blazepose"
                )
        if self.body == "mesh" and (not self.meshes_from_file or self.refine):
            raise ValueError("body: mesh is for a file of vertices, which can't be fitted or refined")
        if self.body == "smal" and self.mesh_source == "fit":
            raise ValueError("body: smal is for a file of meshes: the fit knows no landmarks of animals")
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
    def meshes_from_file(self) -> bool:
        """Whether meshes come with the video, in a file of any format."""
        return self.mesh_source.partition(":")[0] == "file"

    @property
    def needs_detection(self) -> bool:
        """Whether people have to be detected in the frames: for their meshes, or for masks."""
        return not self.meshes_from_file or self.filter.masks or self.refine

    def describe(self) -> dict[str, Any]:
        """Return all settings as JSON values, without paths of this machine (see `Source`); reads files that they name.

        Raises:
            AssetError: if body or network are ones that users bring, and their files are missing.
        """
        values = self.model_dump(mode="json", context=BY_CONTENT)
        if self.body in MODELS:
            # The file counts, whether it was named or found where such files usually lie.
            found = find_model_file(self.body, self.gender, self.body_file)
            values["body_file"] = f"sha256:{_content_hash(found)}"
        if self.mesh_source == "tokenhmr":
            values["tokenhmr"] = f"sha256:{_content_hash(find_tokenhmr(self.tokenhmr))}"
        return values

    def version(self) -> str:
        """Return the label version: the same one means the same labels. Reads files, and raises, as `describe` does."""
        settings = json.dumps(self.describe(), sort_keys=True)
        return f"{LABEL_CODE_VERSION}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def labeling_config(recipe: str | Path = "open", settings: Mapping[str, Any] | None = None) -> LabelingConfig:
    """Read the configuration of a recipe, and change some settings.

    Args:
        recipe: a name in `RECIPES`, or the path of a YAML or JSON file with the names and the nesting of
            `LabelingConfig`. Settings that it does not name keep their defaults.
        settings: changes to it, nested likewise: {"clips": {"fps": 10}, "points": 256}.

    Raises:
        ValueError: there is no such recipe or setting, or a value is out of its range; the message is one line.
    """
    return read_recipe(LabelingConfig, RECIPES, recipe, settings)
