"""Live tracking: a frame goes in, and the positions of the points that are followed come out.

`OnlineTracker` holds what does not depend on the network: which points there are, which frames are kept, and when a
frame's positions are given. A *follower* per kind of network tracks the points that were added in one frame:

- TAPNext, and TAPIR with causal weights, carry a state from frame to frame, and FlowChain a position: their positions
  are those of the pipeline, and there is no delay;
- CoTracker3's online weights work in windows that overlap by half: a frame is final after a window less one frame;
- LocoTrack looks ahead: the last `WINDOW` frames are refined together, and a frame is given `DELAY` frames late.

Points are xy in raster pixels of the frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from anthrotap_hf.models.flowchain.modeling_flowchain import FlowChainFollower
from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackFeatures
from anthrotap_hf.pipelines.loading import load_tracker
from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline, estimates
from anthrotap_hf.utils.errors import AnthroTapError

# Frames that points may still be added in.
HISTORY = 64
# Frames that a LocoTrack refines together, and how many of them come after the one that is given.
WINDOW, DELAY = 24, 4


class OnlineError(AnthroTapError):
    """A frame or a point does not fit the ones before."""


@dataclass
class OnlineOutput:
    """The points of one frame.

    Attributes:
        t: number of the frame, from 0.
        ids: [N] of the points, in the order they were added in.
        xy: [N, 2] float32.
        visible: [N] bool; False out of the frame.
        scores: [N] float32, the probability of being visible.
        uncertainty: [N] float32, the probability that the position is off.
    """

    t: int
    ids: list[int]
    xy: np.ndarray
    visible: np.ndarray
    scores: np.ndarray
    uncertainty: np.ndarray


# xy [n, 2] in the model's pixels, and [n]: visible logits, scores, uncertainty.
_Estimates = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class _Follower(Protocol):
    """Tracks n points from the frame that they were added in on; its frames are counted from there."""

    def feed(self, pixels: torch.Tensor) -> None:
        """Take the next frame, [1, 1, 3, h, w] uint8."""

    def at(self, frame: int) -> _Estimates:
        """Return what is known of a frame; a tracker's delay after it was fed, it is final."""


class OnlineTracker:
    """Tracks points through frames as they come.

    Example:
        >>> import numpy as np
        >>> from anthrotap_hf import OnlineTracker
        >>> tracker = OnlineTracker("flowchain")
        >>> frames = np.random.default_rng(0).integers(0, 255, (3, 64, 96, 3), dtype=np.uint8)
        >>> tracker.step(frames[0])  # no points yet
        OnlineOutput(t=0, ids=[], ...)
        >>> tracker.add([[20.5, 30.5], [70, 40]])
        [0, 1]
        >>> tracker.step(frames[1]).xy.shape
        (2, 2)

    Args:
        tracker: a loaded pipeline, or what `load_tracker` takes; None for the bundled tracker.
        resolution: (height, width) that the model sees frames at; its own by default.
        device: of the model, if it is to be loaded.

    Attributes:
        delay: how many frames later the positions of a frame are given.

    Raises:
        OnlineError: if the tracker needs the whole clip.
    """

    def __init__(
        self,
        tracker: PointTrackingPipeline | str | None = None,
        resolution: tuple[int, int] | None = None,
        device: str = "cpu",
    ) -> None:
        self.tracker = tracker if isinstance(tracker, PointTrackingPipeline) else load_tracker(tracker, device)
        self.resolution = resolution
        self.delay, self._follow = _follower_of(self.tracker)
        self.size: tuple[int, int] | None = None
        self.num_frames = 0
        self._next_id = 0
        self._kept: deque[tuple[int, torch.Tensor]] = deque(maxlen=HISTORY)
        # Of each group: the frame that it was added in, the ids that live, their places among the follower's points,
        # and where they were added, [n, 2] in pixels of the frames.
        self._groups: list[tuple[int, dict[int, int], np.ndarray, _Follower]] = []

    @classmethod
    def from_pretrained(cls, name: str | None = None, **options: Any) -> OnlineTracker:
        """Load a tracker by name, folder or Hub id; options are those of the class."""
        return cls(name, **options)

    def add(self, points: Sequence[Sequence[float]] | np.ndarray, t: int | None = None) -> list[int]:
        """Follow more points, and return their ids.

        Args:
            points: [[x, y], ...] in pixels of the frames.
            t: the frame they lie in: one of the last `HISTORY`; the last one that was fed by default.

        Raises:
            OnlineError: if no frame was fed yet, the frame is not kept, or a point lies outside it.
        """
        if self.size is None:
            raise OnlineError("no frame was fed yet: points lie in a frame")
        t = self.num_frames - 1 if t is None else t
        later = [pixels for number, pixels in self._kept if number >= t]
        if not 0 <= t < self.num_frames or len(later) != self.num_frames - t:
            oldest = self._kept[0][0]
            raise OnlineError(f"frame {t} is not kept: points are added in frames {oldest} to {self.num_frames - 1}")
        xy = np.asarray(points, np.float64).reshape(-1, 2) if len(points) else np.zeros((0, 2))
        height, width = self.size
        # NaN fails both comparisons.
        inside = ((xy >= 0) & (xy <= [width, height])).all(1)
        if not inside.all():
            x, y = xy[int(np.argmin(inside))]
            raise OnlineError(f"a point is at ({x:g}, {y:g}), outside the frame of {width}x{height}")
        ids = list(range(self._next_id, self._next_id + len(xy)))
        if not ids:
            return []
        self._next_id += len(ids)
        pixels = later[0]
        limit = np.array([pixels.shape[-1], pixels.shape[-2]])
        follower = self._follow(np.minimum(xy * self._scale, limit))
        for kept in later:
            follower.feed(kept)
        self._groups.append((t, {id_: n for n, id_ in enumerate(ids)}, xy, follower))
        return ids

    def drop(self, ids: Sequence[int]) -> None:
        """Follow these points no longer. Raises OnlineError for one that is not followed."""
        for id_ in ids:
            own = next((places for _, places, _, _ in self._groups if id_ in places), None)
            if own is None:
                raise OnlineError(f"no point {id_} is followed")
            del own[id_]
        self._groups = [group for group in self._groups if group[1]]

    def step(self, frame: np.ndarray) -> OnlineOutput | None:
        """Take a frame, [H, W, 3] uint8 RGB, and return the points of the frame `delay` frames before it.

        None while there is no such frame. Raises OnlineError if frames change their size.
        """
        size = tuple(frame.shape[:2])
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise OnlineError(f"a frame must be [H, W, 3] uint8 RGB, got {frame.dtype} {list(frame.shape)}")
        if self.size is not None and size != self.size:
            (h, w), (height, width) = self.size, size
            raise OnlineError(f"frames were {w}x{h}, and frame {self.num_frames} is {width}x{height}")
        self.size = (size[0], size[1])
        # A flipped view, as OpenCV's BGR is made RGB by, has strides that torch does not take.
        prepared = self.tracker.image_processor.preprocess(
            np.ascontiguousarray(frame)[None], self.resolution, do_rescale=False
        )
        pixels = prepared["pixel_values_videos"].to(self.tracker.device)
        self._kept.append((self.num_frames, pixels))
        self._scale = np.array([pixels.shape[-1] / size[1], pixels.shape[-2] / size[0]])
        self.num_frames += 1
        for _, _, _, follower in self._groups:
            follower.feed(pixels)
        return self._output(self.num_frames - 1 - self.delay)

    def points_now(self) -> OnlineOutput:
        """Return the points of the last frame, with those that were added in it since; as yet, where there is a delay.

        Raises OnlineError if no frame was fed yet.
        """
        output = self._output(self.num_frames - 1)
        if output is None:
            raise OnlineError("no frame was fed yet: points lie in a frame")
        return output

    def finish(self) -> list[OnlineOutput]:
        """Return the points of the frames that `step` has not given yet: the last `delay` ones."""
        return [
            output
            for t in range(max(self.num_frames - self.delay, 0), self.num_frames)
            if (output := self._output(t)) is not None
        ]

    def _output(self, t: int) -> OnlineOutput | None:
        if t < 0 or self.size is None:
            return None
        ids: list[int] = []
        parts: list[list[np.ndarray]] = [[], [], [], []]
        height, width = self.size
        for begin, places, asked, follower in self._groups:
            if begin > t:
                continue
            own = [*places.values()]
            found, logits, scores, uncertainty = (each[own] for each in follower.at(t - begin))
            xy = (found / self._scale).astype(np.float32)
            visible, scores, uncertainty = logits > 0, scores.copy(), uncertainty.copy()
            if begin == t:
                # In its own frame, a point is where it was said to be.
                xy = asked[own].astype(np.float32)
                visible[:], scores[:], uncertainty[:] = True, 1, 0
            outside = ((xy < 0) | (xy > [width, height])).any(1)
            visible[outside], scores[outside] = False, 0
            ids += places
            for part, value in zip(parts, (xy, visible, scores, uncertainty), strict=True):
                part.append(value)
        if not ids:
            empty = np.zeros(0, np.float32)
            return OnlineOutput(t, [], np.zeros((0, 2), np.float32), empty > 0, empty, empty)
        return OnlineOutput(t, ids, *(np.concatenate(part) for part in parts))


def _follower_of(tracker: PointTrackingPipeline) -> tuple[int, Callable[[np.ndarray], _Follower]]:
    """Return a tracker's delay, and what makes a follower of points [n, 2] in the model's pixels."""
    model: Any = tracker.model
    kind = model.config.model_type
    if kind == "flowchain":
        return 0, lambda xy: _FlowFollower(model, xy)
    if kind == "locotrack":
        shared = _SharedFeatures(model)
        return DELAY, lambda xy: _WindowFollower(model, xy, shared)
    if kind == "cotracker3" and model.config.online:
        return model.config.window_size - 1, lambda xy: _HalfWindowFollower(model, xy)
    if hasattr(model, "start") and getattr(model, "carries_state", kind != "cotracker3"):
        return 0, lambda xy: _StateFollower(model, xy)
    raise OnlineError(
        f"{type(model).__name__} needs the whole clip",
        hint="live tracking takes TAPNext, causal TAPIR, online CoTracker3, LocoTrack or FlowChain",
    )


def _queries(xy: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return points [n, 2] as queries [1, n, 3] in frame 0."""
    rows = np.concatenate([np.zeros((len(xy), 1)), xy], axis=1)
    return torch.from_numpy(rows.astype(np.float32))[None].to(device)


def _arrays(out: Any) -> list[_Estimates]:
    """Return the estimates of a model's output, frame by frame."""
    tracks, logits, scores, uncertainty = (part[0].float().cpu().numpy() for part in estimates(out))
    return [(tracks[:, t], logits[:, t], scores[:, t], uncertainty[:, t]) for t in range(tracks.shape[1])]


class _StateFollower:
    """Of networks that carry a state."""

    def __init__(self, model: Any, xy: np.ndarray) -> None:
        self._model, self._state = model, model.start(_queries(xy, model.device))
        self._asked = {"output_certainty": True} if model.config.model_type == "tapnext" else {}
        self._last: tuple[int, _Estimates] | None = None

    @torch.inference_mode()
    def feed(self, pixels: torch.Tensor) -> None:
        out = self._model(pixel_values_videos=pixels, state=self._state, **self._asked)
        self._state = out.state
        number = -1 if self._last is None else self._last[0]
        self._last = number + 1, _arrays(out)[0]

    def at(self, frame: int) -> _Estimates:
        assert self._last is not None
        assert self._last[0] == frame
        return self._last[1]


class _FlowFollower:
    """Of FlowChain, which needs the frame before alone."""

    def __init__(self, model: Any, xy: np.ndarray) -> None:
        self._flow = FlowChainFollower(model.config, xy)

    def feed(self, pixels: torch.Tensor) -> None:
        self._flow.step(pixels[0, 0].permute(1, 2, 0).cpu().numpy())

    def at(self, frame: int) -> _Estimates:
        logits = self._flow.visible_logits()
        scores = 1 / (1 + np.exp(-logits))
        return self._flow.xy, logits, scores, 1 - scores


class _HalfWindowFollower:
    """Of CoTracker3's online weights: windows that overlap by half."""

    def __init__(self, model: Any, xy: np.ndarray) -> None:
        self._model, self._state = model, model.start(_queries(xy, model.device))
        self._waiting: list[torch.Tensor] = []
        self._known: dict[int, _Estimates] = {}
        self._fed = 0

    @torch.inference_mode()
    def feed(self, pixels: torch.Tensor) -> None:
        self._waiting.append(pixels)
        self._fed += 1
        size = self._model.config.window_size
        if len(self._waiting) == (size if self._state.begin is None else size // 2):
            self._state = self._advance()
            self._waiting = []

    def _advance(self) -> Any:
        """Track through the frames that wait, and return the state after them."""
        out, state = self._model.step(torch.cat(self._waiting, dim=1), self._state)
        # What the window has not is final.
        oldest = self._fed - 2 * self._model.config.window_size
        self._known = {t: found for t, found in self._known.items() if t >= oldest}
        self._known |= dict(enumerate(_arrays(out), state.begin))
        return state

    def at(self, frame: int) -> _Estimates:
        if frame not in self._known and self._waiting:
            # The video has ended, or is asked for early: a window of fewer frames, whose state is not kept.
            with torch.inference_mode():
                self._advance()
        return self._known[frame]


class _SharedFeatures:
    """Features of the last frames, computed once for all groups of a LocoTrack."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: deque[tuple[torch.Tensor, LocoTrackFeatures]] = deque(maxlen=HISTORY)

    def of(self, pixels: torch.Tensor) -> LocoTrackFeatures:
        for known, found in self._known:
            if known is pixels:
                return found
        features: LocoTrackFeatures = self._model.get_video_features(pixels)
        self._known.append((pixels, features))
        return features


class _WindowFollower:
    """Of LocoTrack: the last frames are refined together, from flow's chain where the network starts from it."""

    def __init__(self, model: Any, xy: np.ndarray, shared: _SharedFeatures) -> None:
        self._model, self._shared, self._queries = model, shared, _queries(xy, model.device)
        self._frames: deque[LocoTrackFeatures] = deque(maxlen=WINDOW)
        self._query_features: Any = None
        self._flow: Any = None
        if model.config.flow_start:
            self._flow = FlowChainFollower.of_colors(model.config.flow_color_change, xy)
        # Where flow leads, and its logits, in the frames that are kept.
        self._chain: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=WINDOW)
        self._fed = 0
        self._known: tuple[int, list[_Estimates]] = (0, [])

    @torch.inference_mode()
    def feed(self, pixels: torch.Tensor) -> None:
        features = self._shared.of(pixels)
        if self._query_features is None:
            self._query_features = self._model.get_query_features(features, self._queries)
        self._frames.append(features)
        self._fed += 1
        if self._flow is not None:
            self._flow.step(pixels[0, 0].permute(1, 2, 0).cpu().numpy())
            self._chain.append((self._flow.xy.copy(), self._flow.unbroken_logits()))

    def at(self, frame: int) -> _Estimates:
        begin = self._fed - len(self._frames)
        if self._known[0] != self._fed:
            start = None
            if self._flow is not None:
                parts = (np.stack([step[part] for step in self._chain], axis=1)[None] for part in (0, 1))
                start = tuple(torch.from_numpy(part).to(self._queries.device) for part in parts)
            with torch.inference_mode():
                features = LocoTrackFeatures.joined([*self._frames])
                out = self._model.track_window(features, self._query_features, self._queries, begin, start)
            self._known = self._fed, _arrays(out)
        return self._known[1][frame - begin]


__all__ = ["OnlineError", "OnlineOutput", "OnlineTracker"]
