"""`pipeline("point-tracking")`: a video and query points in, tracks in the video's own pixels out.

The file stands alone beside those that it imports: saved pipelines carry all of them along, and run without this
package by `trust_remote_code=True`.
"""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, Pipeline
from transformers.utils import logging

from .image_processing_point_tracking import PointTrackingImageProcessor
from .leaving import Found, keep_in_order
from .progress import Progress, progress_bar
from .queries import has_ids, query_points
from .queries import support_points as add_support
from .video import VideoError, frames_before_damage
from .video_values import frames_or_source, is_batch, is_frame_list, row_value

logger = logging.get_logger(__name__)

TASK = "point-tracking"
# Frames that are read, resized and, where the model goes frame by frame, tracked at once.
FRAMES_AT_ONCE = 16
# Queries that are tracked at once where a tracker follows each by itself: memory is bounded for every pixel, too.
QUERIES_AT_ONCE = 8192
# The files beside the video reader that it imports.
READER_FILES = ("containers.py", "display_order.py", "h264.py", "images.py", "packets.py", "pictures.py")

# Ways to say which points are tracked.
QUERY_OPTIONS = {"points", "grid_size", "query_frame", "points_per_frame", "mask"}


@dataclass
class TrackerInput:
    """What the model is given of one video.

    Attributes:
        pixels: [T, 3, h, w] uint8, at the model's resolution.
        queries: [N + S, 3] float32 (t, x, y), xy in the model's pixels; support points last.
        asked: [N, 3] float64, the queries that were asked for, xy in the video's pixels.
        size: (height, width) of the video.
    """

    pixels: torch.Tensor
    queries: torch.Tensor
    asked: np.ndarray
    size: tuple[int, int]


@dataclass
class TrackerOutput:
    """What the model found in one video.

    Attributes:
        estimates: of its N queries, as `estimates` gives them; xy in the model's pixels.
        video: what it was given; without the pixels.
        scale: [2], pixels of the model for one of the video's, in x and y.
    """

    estimates: list[torch.Tensor]
    video: TrackerInput
    scale: np.ndarray


def estimates(out: Any) -> list[torch.Tensor]:
    """Return a model's tracks [B, N, T, 2], and [B, N, T]: visible logits, scores and uncertainty.

    A score is the probability of being visible, uncertainty that of a position that is off. A model that does not tell
    the two apart gives one by the other.
    """
    hidden = getattr(out, "occlusion_logits", None)
    scores = (out.visible_logits if hidden is None else -hidden).float().sigmoid()
    # As LocoTrack and TAPIR call it.
    off = getattr(out, "uncertainty_logits", None)
    off = getattr(out, "expected_distance_logits", None) if off is None else off
    # As CoTracker3 and AllTracker call it; and TAPNext.
    sure, certainty = getattr(out, "confidence_logits", None), getattr(out, "certainty", None)
    if off is None and sure is not None:
        off = -sure
    if off is not None:
        uncertainty = off.float().sigmoid()
    else:
        uncertainty = 1 - (scores if certainty is None else certainty.float())
    return [out.tracks, out.visible_logits, scores, uncertainty]


class PointTrackingPipeline(Pipeline):
    """Tracks points through videos.

    Example:
        >>> from transformers import pipeline
        >>> import anthrotap_hf
        >>> tracker = pipeline("point-tracking")
        >>> found = tracker("dance.mp4", points=[[0, 320.5, 180.5]])  # doctest: +SKIP
        >>> found["tracks"].shape  # doctest: +SKIP
        (1, 48, 2)

    Points are xy in raster pixels of the input video, as displayed: the frame spans (0, 0) to (W, H) and the first
    pixel's center is (0.5, 0.5).
    """

    _load_processor = False
    _load_image_processor = None
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    image_processor: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arguments = set(inspect.signature(self.model.forward).parameters)
        if not {"pixel_values_videos", "query_points"} <= self._arguments:
            raise ValueError(
                f"{type(self.model).__name__} is no point tracker: its forward takes no pixel_values_videos and "
                "query_points; name a LocoTrack, TAPIR, TAPNext or FlowChain model"
            )
        # A TAPIR takes a state only with causal weights.
        self._frame_by_frame = "state" in self._arguments and getattr(self.model, "carries_state", True)
        if not hasattr(self.model, "start" if self._frame_by_frame else "num_steps"):
            raise ValueError(
                f"{type(self.model).__name__} must either carry a state, which `start(query_points)` gives, or say by "
                "`num_steps(num_frames, query_points)` how often it calls the `progress` that its forward takes"
            )
        self.model.eval()
        if self.image_processor is None:
            self.image_processor = PointTrackingImageProcessor.for_model(self.model.config)
        kind = self.model.config.model_type
        if kind == "flowchain":
            logger.warning(
                "tracking by FlowChain: chained optical flow, nothing learned; a trained tracker is better where "
                "drift and occlusions matter"
            )
        elif getattr(self.model.config, "flow_start", False):
            logger.warning(
                f"tracking by LocoTrack ({kind}), {self.model.num_parameters():,} parameters, which refines optical "
                "flow; a larger tracker (`anthrotap trackers` lists them) is better where long occlusions matter"
            )
        else:
            logger.info(f"tracking by {type(self.model).__name__} ({kind}), {self.model.name_or_path}")

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Track points in one video or many.

        Args:
            inputs: a path of a file or of a folder of pictures, an http(s) address (or one of fsspec's), a file or its
                bytes, frames in memory, a `Video` value of a dataset (undecoded: {"bytes": ..., "path": ...}), or
                {"video": one of these, "points": its own queries, optional}, as rows of datasets are.

                Frames in memory are an array [T, H, W, C], a tensor [T, C, H, W], or a list of arrays, tensors or
                pictures of Pillow; uint8 or floats from 0 to 1; gray, RGB or RGBA, whose alpha is dropped.

                A list of videos, or an array or tensor [B, T, ...], gives a list of results; a dataset, or a generator,
                is streamed: results come one by one. Of many videos, one that can't be read costs itself alone: its
                result is {"error": a VideoError}, and a warning says why.
            points: queries [[t, x, y], ...]: t a whole frame number from 0, xy in the video's pixels. Or
                [[t, x, y, id], ...]: rows of one id are places of one point, whose track passes through all of them,
                see `anthrotap_hf.pipelines.corrections`; one result an id, in order of their first rows, with "ids" and
                "valid" besides.
            grid_size: n x n queries, spread evenly over one frame, or over the box around `mask` in it, of which
                those in the mask are kept; or "all": every pixel of the frame or of the mask. With `points`, these
                come first.
            query_frame: the frame of `grid_size`; 0 by default.
            points_per_frame: instead: so many queries in every frame, spread evenly over it or over its mask.
            mask: where `grid_size` or `points_per_frame` puts queries: an array [H, W], not 0 where it holds, a picture
                of it, or a folder of one for each frame, in natural order of their names. Of several objects in a
                mask, as in DAVIS, choose one by `mask == number`.
            resolution: (height, width) that the model sees the video at; the image processor's by default.
            support_points: so many more points are tracked around each query, and dropped: they help trackers whose
                queries attend to each other (TAPNext), and cost time. The model's own number by default, mostly 0.
            query_chunk_size, frame_chunk_size, window_size: bounds on memory; the model's by default.
            batch_size: how many videos the model works on at once. Only those of equal length and number of queries
                are, the others go one by one, so results do not depend on it.
            video_folder: a folder of yours: a row that holds no video but a path, as those of datasets of the kind
                videofolder do, gets the file at that path if it lies in the folder. No other path in a row is opened.
            outside: whether tracks go on beyond the border of the frame where points have left it; if not, they stay on
                the border.
            progress: whether to show progress; None shows it on a terminal, for work of more than some seconds. A
                callable is called with the kind of work ("reading", "tracking"), how much of it is done, and how much
                there is (None if unknown).

        Returns:
            {"tracks": [N, T, 2] float32 xy in the video's pixels, "visible": [N, T] bool, "scores": [N, T] float32, the
            probability of being visible, "uncertainty": [N, T] float32, the probability that the position is off (by
            more than the tracker's own measure, some pixels; 1 - score where a tracker does not tell them apart)},
            numpy. Both directions of time are tracked. In order of the queries; a grid goes row by row,
            `points_per_frame` frame by frame.

            Whatever the tracker: a query is visible where it was asked. A point out of the frame is occluded, with
            score 0. Positions that a tracker finds elsewhere once its point has left are replaced by the motion that
            the point had (uncertainty 1), until it is seen where it can have come to.

        Raises:
            ValueError: the video cannot be read, or queries are missing, outside it or not in whole frames.
        """
        if is_frame_list(inputs):
            # transformers would take the frames for videos.
            inputs = {"video": inputs}
        elif is_batch(inputs):
            inputs = list(inputs)
        if type(inputs).__module__.split(".")[0] == "datasets":
            inputs = (row_value(row) for row in inputs)
        elif isinstance(inputs, Iterator) and not hasattr(inputs, "read"):
            # transformers knows generators only.
            inputs = (item for item in inputs)
        many = isinstance(inputs, list | Iterator) and not hasattr(inputs, "read")
        if has_ids(kwargs.get("points")):
            return self._track_corrected(inputs, many, **kwargs)
        return super().__call__(inputs, keep_errors=many, **kwargs)

    def _track_corrected(self, inputs: Any, many: bool, points: Any, **kwargs: Any) -> Any:
        """Track points of several queries each, by `PointEditor`."""
        try:
            from anthrotap_hf.pipelines.corrections import PointEditor, points_of_rows
        except ImportError as error:
            raise ImportError("points with ids need the package anthrotap") from error
        if many:
            raise ValueError("points with ids belong to one video: call the pipeline for each")
        options = {name: kwargs.pop(name) for name in ("resolution", "progress", "video_folder") if name in kwargs}
        if kwargs:
            raise ValueError(f"{', '.join(sorted(kwargs))}: not with points that have ids")
        edited = points_of_rows(points)
        video = inputs["video"] if isinstance(inputs, Mapping) and "video" in inputs else inputs
        return PointEditor(self, video, **options).track(edited).found()

    def _sanitize_parameters(
        self,
        resolution: tuple[int, int] | None = None,
        support_points: int | None = None,
        query_chunk_size: int | None = None,
        frame_chunk_size: int | None = None,
        window_size: int | None = None,
        outside: bool | None = None,
        progress: Progress = None,
        video_folder: str | os.PathLike[str] | None = None,
        keep_errors: bool = False,
        **queries: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        queries = {name: value for name, value in queries.items() if value is not None}
        if unknown := set(queries) - QUERY_OPTIONS:
            raise TypeError(f"unknown option {', '.join(sorted(unknown))}")
        sizes = {
            "query_chunk_size": query_chunk_size,
            "frame_chunk_size": frame_chunk_size,
            "window_size": window_size,
        }
        chunks = {name: size for name, size in sizes.items() if size is not None}
        for name, size in chunks.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
            if name not in self._arguments:
                raise ValueError(f"{type(self.model).__name__} has no {name}: leave it out")
        shown = {} if progress is None else {"progress": progress}
        if support_points is not None and support_points < 0:
            raise ValueError(f"support_points must be at least 0, got {support_points}")
        given = {"resolution": resolution, "support_points": support_points, "video_folder": video_folder}
        before = {**queries, **shown} | {name: value for name, value in given.items() if value is not None}
        if keep_errors:
            before["keep_errors"] = True
        return before, {**chunks, **shown}, {} if outside is None else {"outside": outside}

    def preprocess(
        self,
        inputs: Any,
        resolution: tuple[int, int] | None = None,
        support_points: int | None = None,
        progress: Progress = None,
        video_folder: str | os.PathLike[str] | None = None,
        keep_errors: bool = False,
        **queries: Any,
    ) -> dict[str, TrackerInput | VideoError]:
        if isinstance(inputs, Mapping) and "video" in inputs:
            if inputs.get("points") is not None:
                queries["points"] = inputs["points"]
            inputs = inputs["video"]
        try:
            pixels, (height, width) = self.read_frames(inputs, resolution, progress, video_folder)
        except VideoError as error:
            if not keep_errors:
                raise
            logger.warning(f"a video is left out: {error}")
            return {"video": error}
        points = query_points(len(pixels), height, width, **queries)
        asked = points
        support = getattr(self.model.config, "support_points", 0) if support_points is None else support_points
        if support:
            points = np.concatenate([points, add_support(points, support, height, width)])
        scale = np.array([pixels.shape[3] / width, pixels.shape[2] / height])
        # A border of the frame stays one in float32.
        limit = np.array([np.inf, pixels.shape[3], pixels.shape[2]])
        scaled = np.minimum(points * [1, *scale], limit)
        given = torch.from_numpy(scaled.astype(np.float32))
        return {"video": TrackerInput(pixels, given, asked, (height, width))}

    def read_frames(
        self,
        video: Any,
        resolution: tuple[int, int] | None = None,
        progress: Progress = None,
        video_folder: str | os.PathLike[str] | None = None,
    ) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return a video's frames [T, 3, h, w] uint8 at the model's resolution, and (height, width) of the video.

        Arguments are those of `__call__`. No more than `FRAMES_AT_ONCE` frames are held at their own size. A damaged
        file is read up to the damage.
        """
        source = frames_or_source(video, video_folder)
        frames = source if isinstance(source, np.ndarray) else (frame.image for frame in frames_before_damage(source))
        parts, some, size = [], [], (0, 0)
        with progress_bar("reading", "frames", None, progress) as bar:
            for image in frames:
                some.append(image)
                if len(some) == FRAMES_AT_ONCE:
                    parts.append(self._prepare(some, resolution))
                    some = []
                size = image.shape[:2]
                bar.update(1)
        if some:
            parts.append(self._prepare(some, resolution))
        # Joined bit by bit: a long video is not held twice.
        whole = torch.empty(sum(map(len, parts)), *parts[0].shape[1:], dtype=parts[0].dtype)
        filled = 0
        while parts:
            part = parts.pop(0)
            whole[filled : filled + len(part)] = part
            filled += len(part)
        return whole, size

    def _prepare(self, frames: list[np.ndarray], resolution: tuple[int, int] | None) -> torch.Tensor:
        prepared = self.image_processor.preprocess(np.stack(frames), resolution, do_rescale=False)
        pixels: torch.Tensor = prepared["pixel_values_videos"][0]
        return pixels

    def _forward(
        self,
        model_inputs: dict[str, Any],
        progress: Progress = None,
        **chunks: int,
    ) -> dict[str, Any]:
        # With batch_size, transformers hands over a list, which may have one item.
        batch = model_inputs["video"]
        videos: list[TrackerInput] = batch if isinstance(batch, list) else [batch]
        # A video that can't be read goes through as its error.
        outputs: list[TrackerOutput | VideoError | None] = [
            video if isinstance(video, VideoError) else None for video in videos
        ]
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, video in enumerate(videos):
            if outputs[index] is None:
                alike.setdefault((*video.pixels.shape, len(video.queries)), []).append(index)
        for group in alike.values():
            # A single video is not copied: long ones are large.
            pixels = [videos[index].pixels for index in group]
            stacked = pixels[0][None] if len(group) == 1 else torch.stack(pixels)
            queries = torch.stack([videos[index].queries for index in group]).to(self.device)
            found = self._track(stacked.to(self.device), queries, chunks, progress)
            for n, index in enumerate(group):
                video = videos[index]
                of_video = [each[n, : len(video.asked)].float().cpu() for each in found]
                (height, width), (h, w) = video.size, video.pixels.shape[2:]
                scale = np.array([w / width, h / height])
                outputs[index] = TrackerOutput(of_video, replace(video, pixels=video.pixels[:0]), scale)
        return {"video": outputs if isinstance(batch, list) else outputs[0]}

    def _track(
        self,
        pixels: torch.Tensor,
        queries: torch.Tensor,
        chunks: Mapping[str, int],
        progress: Progress,
    ) -> list[torch.Tensor]:
        """Return `estimates` of B videos of T frames; frame by frame where the model carries a state."""
        T, model = pixels.shape[1], self.model
        if self._frame_by_frame:
            # Such a model runs forward in time: what comes before a query, it tracks in the reversed video.
            back = bool((queries[..., 0] > 0).any())
            with progress_bar("tracking", "frames", (1 + back) * T, progress) as bar:
                found = self._track_forward(pixels, queries, chunks, bar.update)
                if back:
                    flipped = queries * queries.new_tensor([-1, 1, 1]) + queries.new_tensor([T - 1, 0, 0])
                    before = self._track_forward(pixels.flip(1), flipped, chunks, bar.update)
                    after_query = torch.arange(T, device=pixels.device) >= queries[..., :1]
                    for part, (late, early) in enumerate(zip(found, before, strict=True)):
                        late_there = after_query[..., None] if late.ndim == 4 else after_query
                        found[part] = torch.where(late_there, late, early.flip(2))
            return found
        sizes = {name: size for name, size in chunks.items() if name != "frame_chunk_size"}
        at_once = QUERIES_AT_ONCE if getattr(model, "queries_are_independent", False) else queries.shape[1]
        groups = queries.split(at_once, dim=1)
        whole: list[torch.Tensor] = []
        steps = sum(model.num_steps(T, group, **sizes) for group in groups)
        with progress_bar("tracking", "steps", steps, progress) as bar:
            for index, group in enumerate(groups):
                out = model(pixel_values_videos=pixels, query_points=group, progress=bar.update, **chunks)
                found = estimates(out)
                if len(groups) == 1:
                    return found
                # Filled bit by bit: the result is not held twice.
                whole = whole or [own.new_empty(len(own), queries.shape[1], *own.shape[2:]) for own in found]
                for every, own in zip(whole, found, strict=True):
                    every[:, index * at_once : index * at_once + own.shape[1]] = own
        return whole

    def _track_forward(
        self,
        pixels: torch.Tensor,
        queries: torch.Tensor,
        chunks: Mapping[str, int],
        progress: Callable[[int], Any],
    ) -> list[torch.Tensor]:
        """Track forward in time, with a state that is carried along."""
        state, parts = self.model.start(queries), []
        asked = {"output_certainty": True} if "output_certainty" in self._arguments else {}
        for frames in pixels.split(max(FRAMES_AT_ONCE, chunks.get("frame_chunk_size", 0)), dim=1):
            out = self.model(pixel_values_videos=frames, state=state, **asked, **chunks)
            state = out.state
            parts.append(estimates(out))
            progress(frames.shape[1])
        return [torch.cat(part, dim=2) for part in zip(*parts, strict=True)]

    def postprocess(
        self, model_outputs: dict[str, TrackerOutput | VideoError], outside: bool = False
    ) -> dict[str, Any]:
        of_model = model_outputs["video"]
        if isinstance(of_model, VideoError):
            return {"error": of_model}
        tracks, logits, scores, uncertainty = (each.numpy() for each in of_model.estimates)
        found = Found(tracks / of_model.scale, logits > 0, scores.copy(), uncertainty.copy())
        keep_in_order(found, of_model.video.asked, *of_model.video.size, outside)
        return {
            "tracks": found.xy.astype(np.float32),
            "visible": found.visible,
            "scores": found.scores,
            "uncertainty": found.uncertainty,
        }

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model, the image processor, and the code of both and of the pipeline.

        `pipeline("point-tracking", model=save_directory, trust_remote_code=True)` then runs where this package is not
        installed.
        """
        config, processor = self.model.config, self.image_processor
        kinds = {
            type(self.model): "AutoModel",
            type(config): "AutoConfig",
            type(processor): "AutoImageProcessor",
        }
        before = [(kind, kind._auto_class) for kind in kinds]
        notes = {name: config.__dict__.get(name) for name in ("custom_pipelines", "auto_map")}
        self._registered_impl = {TASK: {"impl": type(self), "pt": (AutoModel,), "type": "video"}}
        for kind, auto in kinds.items():
            kind.register_for_auto_class(auto)
        try:
            super().save_pretrained(save_directory, **kwargs)
        finally:
            # A model that is saved by itself names no code.
            for kind, auto in before:
                kind._auto_class = auto
            for name, value in notes.items():
                config.__dict__.pop(name, None)
                if value is not None:
                    setattr(config, name, value)
        # Code is copied along relative imports; the reader lies elsewhere while it is part of a package.
        reader = Path(inspect.getfile(frames_before_damage))
        shutil.copyfile(reader, Path(save_directory) / "video.py")
        for name in READER_FILES:
            shutil.copyfile(reader.with_name(name), Path(save_directory) / name)


__all__ = ["PointTrackingPipeline"]
