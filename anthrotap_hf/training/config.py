"""Recipes of training: everything that decides what a run learns, in one documented file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from anthrotap_hf.data.shard_reader import ShardReader
from anthrotap_hf.readers import READERS
from anthrotap_hf.readers.base import SHORT_SIDE, DatasetError
from anthrotap_hf.readers.procedural import ProceduralSettings
from anthrotap_hf.training.samples import SampleSettings
from anthrotap_hf.utils.dataset_cards import check_dataset_card
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.file_limits import read_json
from anthrotap_hf.utils.hub_errors import describe_hub_error, describe_load_error
from anthrotap_hf.utils.hub_names import DATASET_NAME, may_be_loaded, split_revision
from anthrotap_hf.utils.settings import Settings, read_recipe

if TYPE_CHECKING:
    from anthrotap_hf.readers.base import Reader

RECIPES = Path(__file__).parent / "recipes"

# Settings of transformers.TrainingArguments that a recipe sets elsewhere, or that would change nothing.
SET_ELSEWHERE = {
    "output_dir": "--out",
    "max_steps": "steps",
    "num_train_epochs": "steps",
    "seed": "seed",
    "data_seed": "seed",
    "per_device_train_batch_size": "batch_size",
    "auto_find_batch_size": "batch_size",
    "per_device_eval_batch_size": "evaluation",
    "eval_strategy": "evaluation",
    "eval_steps": "evaluation.every",
    "save_strategy": "training.save_steps",
    "save_only_model": "training.save_steps",
    "remove_unused_columns": "nothing: batches have no columns to drop",
    "dataloader_drop_last": "nothing: batches are whole",
    "ignore_data_skip": "nothing: a run resumes where it was",
    "label_smoothing_factor": "loss",
    "train_sampling_strategy": "the sources' weights",
    "load_best_model_at_end": "nothing: the last weights are the model",
    "hub_token": "`hf auth login`: recipes are passed on, secrets are not",
    "resume_from_checkpoint": "--out: a run resumes from its last checkpoint",
}
# Those that OneCycle ignores.
SCHEDULED = ("warmup_steps", "lr_scheduler_kwargs", "lr_scheduler_type")


class ModelSettings(Settings):
    """The network that is trained."""

    type: Literal["alltracker", "cotracker3", "locotrack", "tapir", "tapnext"] = Field(description="which tracker")
    start: str | None = Field(
        None, description="folder, Hub id or bundled name of the weights it starts from; None: from nothing"
    )
    config: dict[str, Any] = Field(
        default_factory=dict, description="changes to its configuration (AllTrackerConfig, CoTracker3Config, ...)"
    )
    frozen: list[str] = Field(default_factory=list, description="parts that keep their weights, such as `backbone`")


class _Source(Settings):
    """A dataset in the mixture; `kind` is its layout in `anthrotap_hf.readers.READERS`."""

    kind: str
    weight: float = Field(1.0, gt=0, description="how many steps are its own, relative to other sources' weights")
    sample: SampleSettings = Field(default_factory=SampleSettings, description="how samples are cut from its clips")

    def open(self) -> Reader:
        """Open the dataset.

        Raises:
            DatasetError: if it is not there, or not of this layout.
        """
        return READERS.load(self.kind)(**self._options())

    def _options(self) -> dict[str, Any]:
        """Return what the reader's class is called with: by default the settings of this source alone."""
        options = self.model_dump(exclude={"kind", "weight", "sample"})
        return {
            "folder" if name == "data" else name: os.path.expanduser(value) if isinstance(value, str) else value
            for name, value in options.items()
        }


class ProceduralSource(_Source):
    """Moving textured shapes, drawn as they are needed."""

    kind: Literal["procedural"]
    seed: int = Field(0, ge=0, description="other seeds, other clips")
    length: int = Field(1_000_000, ge=1, description="number of clips")
    settings: ProceduralSettings = Field(ProceduralSettings(), description="size, shapes, blur")

    def _options(self) -> dict[str, Any]:
        return {"settings": self.settings, "seed": self.seed, "length": self.length}


class ShardSource(_Source):
    """Our own labels: what `anthrotap label` writes."""

    kind: Literal["shards"]
    data: str = Field(description="the folder that `anthrotap label` wrote, or a Hub dataset of the kind")
    split: str = Field("train", description="the split of the dataset")
    streaming: bool = Field(False, description="read rows in order, from a hub or a large folder")
    window: int = Field(32, ge=1, description="streaming: rows that a sample is drawn from")
    short_side: int | None = Field(SHORT_SIDE, ge=16, description="of decoded frames, at most, pixels")

    def _options(self) -> dict[str, Any]:
        window = self.window if self.streaming else None
        return {"rows": self._rows(), "name": self.data, "short_side": self.short_side, "window": window}

    def _rows(self) -> Any:
        import datasets

        path, revision = split_revision(os.path.expanduser(self.data))
        hint = "`anthrotap label --out` writes one"
        if not (path == DATASET_NAME or "://" in path or may_be_loaded(path)):
            raise DatasetError("no such folder, and no Hub id, which is user/name", path=self.data, hint=hint)
        try:
            if self.streaming:
                return ShardReader.from_dataset(os.path.expanduser(self.data), self.split, buffer_size=self.window)
            check_dataset_card(path, revision)
            return datasets.load_dataset(path, split=self.split, revision=revision)
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            if message := describe_load_error(error, self.data):
                raise DatasetError(message) from error
            raise DatasetError(
                f"no dataset can be read there ({one_line(error)})", path=self.data, hint=hint
            ) from error

    def distinct(self, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the values that its rows have in some columns, once each."""
        reader = ShardReader.from_dataset(os.path.expanduser(self.data), self.split)
        return list(dict.fromkeys(reader.columns(columns)))


class PreparedSource(_Source):
    """Clips with labels and flow's chains on disk: a step costs the network alone."""

    kind: Literal["prepared"]
    data: str = Field(description="folder of clips, such as `python -m benchmarks.training_cache` makes")
    flow_color_change: float | None = Field(None, gt=0, description="the network's setting of that name")
    human: bool = Field(False, description="the labels are pseudo-labels on people")

    @model_validator(mode="after")
    def _check_sample(self) -> Self:
        if self.sample.affine is not None or self.sample.crop is not None or self.sample.dilation != 1:
            raise ValueError("prepared clips need sample.affine: null, no sample.crop, and sample.dilation: 1")
        return self

    def _options(self) -> dict[str, Any]:
        return {
            "folder": os.path.expanduser(self.data),
            "max_color_change": self.flow_color_change,
            "human": self.human,
        }


class LetsDanceSource(_Source):
    """The labels that the authors released, and the videos that users bring."""

    kind: Literal["letsdance"]
    labels: str = Field(description="folder of .npy files (Hub dataset hamacojr/AnthroTAP-LetsDance)")
    videos: str = Field(description="folder that holds lets_dance/mp4_10fps")
    cache: str | None = Field(None, description="folder for copies that are quick to read; None: none")
    short_side: int | None = Field(SHORT_SIDE, ge=16, description="of decoded frames, at most, pixels")


class KubricSource(_Source):
    """Kubric MOVi-E/F, a folder a clip."""

    kind: Literal["kubric"]
    data: str = Field(description="folder of clips laid out as NAME/NAME.npy and NAME/frames")


class PanningMoviSource(_Source):
    """Panning MOVi-E, the paper's synthetic half."""

    kind: Literal["panning-movi-e"]
    data: str = Field(description="folder with its .tfrecord files (Hub: hamacojr/LocoTrack-panning-MOVi-E)")
    split: Literal["train", "validation"] = Field("train", description="which of its files")


class DriveTrackSource(_Source):
    """DriveTrack, an .npz a vehicle."""

    kind: Literal["drivetrack"]
    data: str = Field(description="folder of .npz files, with their videos")
    short_side: int | None = Field(SHORT_SIDE, ge=16, description="of frames, at most, pixels")


class PointOdysseySource(_Source):
    """PointOdyssey, a folder a clip."""

    kind: Literal["point-odyssey"]
    data: str = Field(description="folder of clips, such as its train/")


class _PathSource(_Source):
    """A layout whose reader takes a path and nothing else."""

    data: str

    def _options(self) -> dict[str, Any]:
        return {"path": os.path.expanduser(self.data)}


class PointSource(_PathSource):
    """Points that somebody marked, or that `anthrotap export --format csv` wrote."""

    kind: Literal["points"]
    data: str = Field(description="a .csv or .json of track,t,x,y,visible beside its video, or a folder of such")


class TrackSource(_PathSource):
    """What `anthrotap track` wrote, or `anthrotap export` for CoTracker, After Effects or Blender."""

    kind: Literal["tracks"]
    data: str = Field(description="a .tracks.npz or .json, .pt, .txt or .py beside its video, or a folder of such")


class TapVidSource(_PathSource):
    """TAP-Vid's layout, such as `anthrotap export --format tapvid` wrote with its video."""

    kind: Literal["tapvid"]
    data: str = Field(description="a .pkl or .npz, or a folder of such; its points should be known where occluded")


Source = Annotated[
    ProceduralSource
    | PreparedSource
    | ShardSource
    | LetsDanceSource
    | PanningMoviSource
    | KubricSource
    | PointOdysseySource
    | DriveTrackSource
    | PointSource
    | TrackSource
    | TapVidSource,
    Field(discriminator="kind"),
]


class LossSettings(Settings):
    """See `anthrotap_hf.training.losses`."""

    as_released: bool = Field(True, description="as the authors released it; false: as they meant it")
    visibility_on_humans: bool = Field(
        False,
        description="learn visibility from labels on people too: needs labels that tell occluded from invalid",
    )
    hidden_weight: float = Field(
        0.0,
        ge=0,
        description="LocoTrack: learn the visible logit itself, hidden labels counting so many times; 0: do not",
    )
    position_limit: float | None = Field(
        None, gt=0, description="LocoTrack: positions that are off by more pixels teach nothing; None: all do"
    )
    frame_side: int = Field(
        256, ge=16, description="LocoTrack: pixels are those of a square frame of this side, 256 as released"
    )


class OneCycle(Settings):
    """Torch's OneCycleLR: up to `training.learning_rate`, and down by a cosine. The defaults are as released."""

    pct_start: float = Field(
        0.003, gt=0, lt=1, description="fraction of the steps that go up; two steps do in any case"
    )
    div_factor: float = Field(25.0, gt=0, description="the first rate is the highest divided by it")
    final_div_factor: float = Field(1e4, gt=0, description="the last rate is the first divided by it")
    cycle_momentum: bool = Field(True, description="beta 1 goes from 0.95 to 0.85 and back (torch's default)")

    def fraction_up(self, steps: int) -> float:
        """Return `pct_start`, or what makes two of the steps go up: torch divides by zero at one."""
        return max(self.pct_start, min(2 / steps, 0.9))


class EvaluationSettings(Settings):
    """Evaluation during training, as `anthrotap evaluate` does it."""

    benchmark: str = Field(description="a name that `anthrotap evaluate` knows")
    data: str = Field(description="its file or folder")
    mode: Literal["first", "strided"] = Field("first", description="frames of the queries, as in TAP-Vid")
    limit: int | None = Field(None, ge=1, description="largest number of videos")
    every: int = Field(1000, ge=1, description="steps")


class TrainingRecipe(Settings):
    """Everything that decides what a run learns."""

    name: str = Field(description="what the trained model is called in its card")
    about: str = Field("", description="a sentence or two for its card")
    model: ModelSettings
    sources: dict[str, Source] = Field(
        min_length=1, description="by a name of your choice; a step's batch is of one source"
    )
    resolution: tuple[int, int] | None = Field(
        None, description="(height, width) that the trained tracker brings videos to; None: the network's own"
    )
    batch_size: int = Field(1, ge=1, description="clips a step and process")
    steps: int = Field(ge=1, description="of the optimizer, in all")
    seed: int = Field(0, ge=0, description="of weights, clips and samples")
    max_bad_fraction: float = Field(0.5, ge=0, le=1, description="more bad clips than this stop the run")
    loss: LossSettings = LossSettings()
    schedule: OneCycle | None = Field(OneCycle(), description="None: the one that training.lr_scheduler_type names")
    evaluation: EvaluationSettings | None = None
    forward: dict[str, Any] | None = Field(
        None, description="passed to the model's forward, such as query_chunk_size; what is null is left out"
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="any other setting of transformers.TrainingArguments"
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, values: Any) -> Any:
        """Drop the sources and options of forward that a recipe, which extends another one, sets to `null`."""
        for name in ("sources", "forward"):
            if isinstance(values, dict) and isinstance(values.get(name), dict):
                kept = {key: value for key, value in values[name].items() if value is not None}
                values = {**values, name: kept}
        return values

    @model_validator(mode="after")
    def _check_training(self) -> Self:
        from transformers import TrainingArguments

        known = {field.name for field in fields(TrainingArguments)}
        for name in self.training:
            if name in SET_ELSEWHERE:
                raise ValueError(f"training.{name} is set by {SET_ELSEWHERE[name]}")
            if name not in known:
                raise ValueError(f"training.{name} is no setting of transformers.TrainingArguments")
        if self.schedule is not None:
            for name in SCHEDULED:
                if name in self.training:
                    raise ValueError(f"training.{name} needs schedule: null")
            if self.schedule.cycle_momentum and "adam_beta1" in self.training:
                raise ValueError("training.adam_beta1 needs schedule.cycle_momentum: false")
        return self


def training_recipe(recipe: str | Path, changes: Mapping[str, Any] | None = None) -> TrainingRecipe:
    """Read a recipe by name (`RECIPES`) or file, with some settings changed.

    Raises:
        ValueError: if there is no such recipe or setting, or a value is out of its range; the message is one line.
    """
    return read_recipe(TrainingRecipe, RECIPES, recipe, changes)


def fine_tuning_recipe(tracker: str) -> str:
    """Return the name of the recipe that fine-tunes a tracker on labels: the one of its architecture.

    Nothing of a known tracker is downloaded for that; of another one of the Hub, its configuration is.

    Args:
        tracker: a bundled or a known name, a folder, or a Hub id.

    Raises:
        AnthroTapError: if nothing can be learned by its architecture, or it can't be found.
    """
    from anthrotap_hf.models.checkpoints import checkpoints
    from anthrotap_hf.pipelines import find_tracker, is_known

    if is_known(tracker):
        kind, settings = checkpoints()[tracker].architecture, checkpoints()[tracker].convert
    else:
        kind, settings = _config_of(*find_tracker(tracker), tracker)
    if kind == "locotrack" and settings.get("flow_start"):
        return "tiny-finetune"
    if kind == "tapnext" and settings.get("frame_size") == 512:
        return "tapnext-512-finetune"
    name = f"{kind}-finetune"
    if not (RECIPES / f"{name}.yaml").is_file():
        reason = f"no recipe fine-tunes a {kind}: there is no published loss for it"
        raise AnthroTapError(reason, path=tracker, argument="model")
    return name


def _config_of(model: str, revision: str | None, tracker: str) -> tuple[str, Mapping[str, Any]]:
    """Return the model type and the settings in a tracker's configuration."""
    from transformers.utils import cached_file

    try:
        path = cached_file(model, "config.json", revision=revision)
        settings = read_json(Path(str(path)))
        return str(settings["model_type"]), settings
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = describe_hub_error(error, tracker)
        if reason is not None:
            raise reason from error
        hint = "name a RECIPE"
        raise AnthroTapError(f"no tracker ({one_line(error)})", path=tracker, hint=hint, argument="model") from error
