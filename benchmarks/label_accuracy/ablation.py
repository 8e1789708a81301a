"""What each stage of labeling contributes: it is left out, or replaced by the ground truth.

Every row of the ablation is `label_clip` under other settings, or with other stages; what rows share is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from unittest import mock

import numpy as np

from anthrotap_builder.clips import VideoClip
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, person_masks
from anthrotap_builder.flow.track_flow import TrackFlow
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery import MeshTrack
from anthrotap_builder.pipeline import LabeledClip, Stages, label_clip
from anthrotap_builder.surface_tracks import SurfaceTracks
from benchmarks.synthetic.ground_truth import GroundTruth
from benchmarks.synthetic.renderer import RenderedClip

TRUTHS = ("masks", "mesh", "visibility", "flow")

# Settings that leave a part out.
_LANDMARKS_ONLY = {"fit_flow": False}
_ALL_CERTAIN = {"visibility": "rays"}
_NO_MASKS = {"filter.masks": False}
_UNCHECKED = {"filter.rule": "none"}
_SINGLE_STEPS = {"filter.rule": "steps"}


@dataclass(frozen=True)
class Variant:
    """A way to label.

    Attributes:
        settings: changed settings, by dotted names.
        truths: parts of `TRUTHS` that replace what the stages find.
        constants: changed constants of modules of visibility and filtering, as "package.module.NAME".
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    truths: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)

    def configured(self, config: LabelingConfig) -> LabelingConfig:
        """`config` with the settings changed."""
        values = config.model_dump()
        for name, value in self.settings.items():
            group, _, setting = name.rpartition(".")
            (values[group] if group else values)[setting] = value
        return LabelingConfig.model_validate(values)


DEFAULT = "default"
UNCHECKED = "without the forward-backward check"
ABLATION: dict[str, Variant] = {
    "projection of the mesh": Variant(_LANDMARKS_ONLY | _NO_MASKS | _UNCHECKED | {"visibility": "none"}),
    "+ ray casting": Variant(_LANDMARKS_ONLY | _ALL_CERTAIN | _NO_MASKS | _UNCHECKED),
    "+ forward-backward check of steps (the paper's rule)": Variant(
        _LANDMARKS_ONLY | _ALL_CERTAIN | _NO_MASKS | _SINGLE_STEPS
    ),
    DEFAULT: Variant(),
    "without flow in the fit": Variant(_LANDMARKS_ONLY),
    "without masks": Variant(_NO_MASKS),
    UNCHECKED: Variant(_UNCHECKED),
    "forward-backward check of single steps": Variant(_SINGLE_STEPS),
    "without the visibility margin": Variant(_ALL_CERTAIN),
    "true masks": Variant(truths=("masks",)),
    "true flow in the check": Variant(truths=("flow",)),
    "true visibility": Variant(truths=("visibility",)),
    "true mesh": Variant(truths=("mesh",)),
    "all four true": Variant(truths=TRUTHS),
}


class Workbench:
    """One clip that is labeled in many ways; what they share is computed once.

    Args:
        clip: frames and ground truth; a real clip, which has none, can be labeled in the ways that need none.
        threads: frames processed at once.
    """

    def __init__(self, clip: RenderedClip | VideoClip, threads: int = 2) -> None:
        self.clip = clip
        self.threads = threads
        self._done: dict[Hashable, Any] = {}

    @property
    def truth(self) -> GroundTruth:
        """The ground truth. Raises ValueError for a real clip."""
        if not isinstance(self.clip, RenderedClip):
            raise ValueError("a real clip has no ground truth to replace a stage")
        return self.clip.truth

    @cached_property
    def _pixels(self) -> _TruePixels:
        return _TruePixels(self.truth)

    def label(self, config: LabelingConfig, variant: Variant | None = None) -> LabeledClip:
        """Label the clip under `config`, changed by `variant`."""
        variant = variant or Variant()
        stages = self._stages(variant)
        config = variant.configured(config)
        with ExitStack() as patches:
            for name, value in variant.constants.items():
                patches.enter_context(mock.patch(name, value))
            return label_clip(self.clip.frames, self.clip.fps, config, self.threads, stages=stages)

    def _once(self, key: Hashable, work: Callable[..., Any], *arguments: Any) -> Any:
        # The arguments are kept too: keys hold their identity.
        if key not in self._done:
            self._done[key] = work(*arguments), arguments
        return self._done[key][0]

    def _stages(self, variant: Variant) -> Stages:
        usual = Stages()

        def detection(context: ClipContext) -> list[PersonTrack]:
            people = self._once(("people", context.config.detection), usual.detection, context)
            if "masks" in variant.truths:
                return self._once(("true masks", id(people)), _true_masks, self._pixels, people)
            return people

        def mesh_recovery(
            context: ClipContext, people: list[PersonTrack], given: list[MeshTrack] | None
        ) -> list[MeshTrack]:
            if "mesh" in variant.truths:
                key: Hashable = ("true mesh", id(people))
                return self._once(key, _true_meshes, self.truth, self._pixels, people, context.camera)
            config = context.config
            key = ("meshes", id(people), config.fit_flow, config.flow, config.focal_ratio)
            return self._once(key, usual.mesh_recovery, context, people, given)

        def visibility(context: ClipContext, meshes: list[MeshTrack]) -> SurfaceTracks:
            config = context.config
            constants = tuple(variant.constants.items())
            key = (id(meshes), config.visibility, config.points, config.seed, constants)
            points = self._once(("visibility", *key), usual.visibility, context, meshes)
            if "visibility" in variant.truths:
                owners = _true_owners(self._pixels, self._done["people", config.detection][0])
                work = (_true_visibility, self.truth, owners, points, context)
                return self._once(("true visibility", *key), *work)
            return points

        def flow(context: ClipContext, xy: np.ndarray, visible: np.ndarray) -> list[TrackFlow]:
            key = ("flow", id(xy), id(visible), context.config.flow)
            found = self._once(key, usual.flow, context, xy, visible)
            if "flow" in variant.truths:
                return self._once(("true flow", id(found)), _true_flow, self.truth, found, xy)
            return found

        return Stages(detection, mesh_recovery, visibility, flow)


class _TruePixels:
    """The person and the body point that each pixel of a rendered clip shows; cached."""

    def __init__(self, truth: GroundTruth) -> None:
        self._truth = truth
        self._frames: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}

    def __call__(self, t: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return of the pixels of frame t that show a person: row-major index, person, face [K], barycentric [K, 3]."""
        if t not in self._frames:
            x, y = np.meshgrid(np.arange(self._truth.width) + 0.5, np.arange(self._truth.height) + 0.5)
            person, face, barycentric = self._truth.surface_point_under(t, np.stack([x.ravel(), y.ravel()], 1))
            on_body = np.flatnonzero(person >= 0)
            self._frames[t] = on_body, person[on_body], face[on_body], barycentric[on_body]
        return self._frames[t]

    def mask(self, t: int, person: int) -> np.ndarray:
        """Return the mask [H, W] bool of the pixels of frame t that show the person."""
        index, owner, *_ = self(t)
        mask = np.zeros(self._truth.height * self._truth.width, bool)
        mask[index[owner == person]] = True
        return mask.reshape(self._truth.height, self._truth.width)


def _true_owners(pixels: _TruePixels, people: list[PersonTrack]) -> list[int]:
    """Return the true person of each detected one: the one that most of its mask shows; -1 if it mostly shows none."""
    owners = []
    for person, mask in zip(people, person_masks(people), strict=True):
        votes: dict[int, int] = {}
        for t in np.flatnonzero(person.found).tolist():
            index, owner, *_ = pixels(t)
            inside = mask[t].ravel()
            shown = owner[inside[index]]
            votes[-1] = votes.get(-1, 0) + int(inside.sum()) - len(shown)
            for one in np.unique(shown).tolist():
                votes[one] = votes.get(one, 0) + int((shown == one).sum())
        owners.append(max(votes, key=votes.__getitem__))
    return owners


def _true_masks(pixels: _TruePixels, people: list[PersonTrack]) -> list[PersonTrack]:
    true = []
    for person, found, owner in zip(people, person_masks(people), _true_owners(pixels, people), strict=True):
        mask = np.zeros_like(found)
        for t in np.flatnonzero(person.found).tolist():
            mask[t] = pixels.mask(t, owner)
        true.append(replace(person, mask=mask))
    return true


def _true_meshes(truth: GroundTruth, pixels: _TruePixels, people: list[PersonTrack], camera: Camera) -> list[MeshTrack]:
    """Return the true vertices of the detected people for a camera of another focal length; points keep their rays."""
    meshes = []
    count = truth.num_frames
    for index, owner in enumerate(_true_owners(pixels, people)):
        if owner < 0:
            vertices, present = np.full_like(truth.people[0], np.nan), np.zeros(count, bool)
        else:
            stretch = np.ones((count, 1, 3), np.float32)
            stretch[:, 0, 2] = camera.focal / truth.focal
            vertices, present = truth.people[owner] * stretch, np.ones(count, bool)
        meshes.append(MeshTrack(index, vertices, present, np.zeros(count), np.ones(count)))
    return meshes


def _true_visibility(
    truth: GroundTruth, owners: list[int], points: SurfaceTracks, context: ClipContext
) -> SurfaceTracks:
    """Return the true visibility of the same points of the body, regardless of the labels' positions."""
    surface = context.body.surface_points(context.config.points, context.config.seed)
    people = np.array(owners)[points.person]
    copies = len(points.person) // len(surface)
    face, barycentric = np.tile(surface.face, copies), np.tile(surface.barycentric, (copies, 1))
    visible = np.stack([truth.locate(t, people, face, barycentric)[1] for t in range(truth.num_frames)], axis=1)
    return replace(points, visible=visible, certain=np.ones_like(visible))


def _true_flow(truth: GroundTruth, found: list[TrackFlow], xy: np.ndarray) -> list[TrackFlow]:
    """Return how the surface points under the labels move; off the body the flow is unchanged."""
    true = [replace(each, displacement=each.displacement.copy(), fb_error=each.fb_error.copy()) for each in found]
    for t in range(truth.num_frames):
        point = truth.surface_point_under(t, xy[:, t])
        on_body = point[0] >= 0
        for each in true:
            for index in np.flatnonzero(each.start == t):
                later = t + each.lag
                end = truth.camera(later).project(truth.points(later, *point))
                each.displacement[on_body, index] = (end - xy[:, t])[on_body]
                each.fb_error[on_body, index] = 0
    return true
