"""`anthrotap convert ...`: convert released checkpoints to folders that `from_pretrained` reads."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli.common import Json, Overwrite, cli_errors, fail, print_error, print_json
from anthrotap_hf.utils.atomic_files import atomic_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel

app = typer.Typer(help="Convert released checkpoints for from_pretrained.", no_args_is_help=True)

Checkpoint = Annotated[Path, typer.Argument(help="The released file.", metavar="CHECKPOINT")]
Folder = Annotated[Path, typer.Argument(help="Folder for the converted model.", metavar="DIR")]


@app.callback()
def main() -> None:
    """Convert released checkpoints for from_pretrained."""


@app.command()
def alltracker(checkpoint: Checkpoint, folder: Folder, overwrite: Overwrite = False, as_json: Json = False) -> None:
    """AllTracker, full or tiny: a .pth.

    Example: anthrotap convert alltracker alltracker.pth alltracker
    """
    from anthrotap_hf.models.alltracker.convert_alltracker import convert_alltracker

    save = partial(_save_with_provenance, checkpoint)
    _convert(lambda: convert_alltracker(checkpoint), folder, overwrite, as_json, save)


@app.command()
def cotracker3(
    checkpoint: Checkpoint,
    folder: Folder,
    online: Annotated[
        bool | None,
        typer.Option("--online/--offline", help="Which kind it is. Default: online where its windows have 16 frames."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """CoTracker3, offline or online: a .pth. Its license is CC-BY-NC-4.0: for non-commercial use.

    Example: anthrotap convert cotracker3 scaled_offline.pth cotracker3-offline
    """
    from anthrotap_hf.models.cotracker3.convert_cotracker3 import convert_cotracker3

    save = partial(_save_with_provenance, checkpoint)
    _convert(lambda: convert_cotracker3(checkpoint, online), folder, overwrite, as_json, save)


@app.command()
def locotrack(
    checkpoint: Checkpoint,
    folder: Folder,
    heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads, where they differ from the released sizes.")
    ] = None,
    strides: Annotated[
        str | None,
        typer.Option(help="Strides of the correlation convolutions, as 2,2,2; if not the released ones."),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Refinement steps.")] = 4,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """LocoTrack and Anthro-LocoTrack, small or base: a Lightning .ckpt.

    Example: anthrotap convert locotrack Anthro-LocoTrack.ckpt anthro-locotrack
    """
    from anthrotap_hf.models.locotrack.convert_locotrack import convert_locotrack

    if strides is not None and not all(part.isdigit() and int(part) for part in strides.split(",")):
        fail(f"--strides must be whole numbers like 2,2,2, got {strides}")
    steps = None if strides is None else [int(part) for part in strides.split(",")]
    _convert(lambda: convert_locotrack(checkpoint, heads, steps, iterations), folder, overwrite, as_json)


@app.command()
def tapir(
    checkpoint: Checkpoint,
    folder: Folder,
    causal: Annotated[
        bool | None,
        typer.Option(
            help="Whether these are weights for tracking frame by frame, which the file does not tell. By default, "
            "those whose name has causal or online are.",
            show_default=False,
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Softmax temperature of the first guess. By default 10 for BootsTAPIR as .npy, else 20.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """TAPIR and BootsTAPIR, offline or causal: a PyTorch .pt or a JAX .npy.

    Example: anthrotap convert tapir bootstapir_checkpoint_v2.pt bootstapir
    """
    from anthrotap_hf.models.tapir.convert_tapir import convert_tapir

    _convert(lambda: convert_tapir(checkpoint, causal, temperature), folder, overwrite, as_json)


@app.command()
def tapnext(
    checkpoint: Checkpoint,
    folder: Folder,
    frame_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the frames that the weights were trained on, which the file does not tell. By default 512 if "
            "its name has that number, else 256.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """TAPNext, BootsTAPNext, Anthro-TAPNext and TAPNext++: a JAX .npz, a .pt or a Lightning .ckpt.

    Example: anthrotap convert tapnext bootstapnext_ckpt.npz bootstapnext
    """
    from anthrotap_hf.models.tapnext.convert_tapnext import convert_tapnext

    _convert(lambda: convert_tapnext(checkpoint, frame_size), folder, overwrite, as_json)


@app.command()
def tokenhmr(
    checkpoint: Checkpoint,
    folder: Folder,
    tokenizer: Annotated[Path, typer.Option(help="The tokenizer's file.")],
    mean_parameters: Annotated[Path, typer.Option(help="SMPL's mean parameters, a .npz.")],
    config: Annotated[
        Path | None,
        typer.Option(help="JSON of TokenHMRConfig settings, where sizes differ from the released ones."),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """TokenHMR, a Lightning .ckpt, for labeling. Licensed for research: do not redistribute the folder.

    Example: anthrotap convert tokenhmr tokenhmr.ckpt tokenhmr --tokenizer tokenizer.pth
    --mean-parameters smpl_mean_params.npz
    """
    from anthrotap_hf.models.tokenhmr.convert_tokenhmr import CARD, convert_tokenhmr

    def convert() -> PreTrainedModel:
        return convert_tokenhmr(checkpoint, tokenizer, mean_parameters, config)

    def save(model: PreTrainedModel, folder: Path) -> None:
        model.save_pretrained(folder)
        (folder / "README.md").write_text(CARD)

    _convert(convert, folder, overwrite, as_json, save)


def _save_pipeline(model: PreTrainedModel, folder: Path) -> None:
    """Save a pipeline: with its image processor, and with the code that runs it without this package."""
    from anthrotap_hf.pipelines import PointTrackingPipeline

    PointTrackingPipeline(model, device="cpu").save_pretrained(folder)


def _save_with_provenance(checkpoint: Path, model: PreTrainedModel, folder: Path) -> None:
    """Save a pipeline, and beside it under which license its weights were released: `publish` keeps to it."""
    from anthrotap_hf.hub.licenses import COMPONENTS
    from anthrotap_hf.utils.provenance import Provenance

    _save_pipeline(model, folder)
    weights = COMPONENTS["released_weights"][model.config.model_type]
    Provenance.of_conversion(checkpoint, weights).write(folder)


def _convert(
    convert: Callable[[], PreTrainedModel],
    folder: Path,
    overwrite: bool,
    as_json: bool,
    save: Callable[[PreTrainedModel, Path], None] = _save_pipeline,
) -> None:
    """Convert, save and print the result; errors of the file or the folder end the command."""
    if folder.exists() and not folder.is_dir():
        fail(f"{folder} is a file, not a folder")
    if folder.exists() and any(folder.iterdir()):
        if not overwrite:
            fail(f"{folder} is not empty; --overwrite replaces a converted model")
        if not (folder / "config.json").is_file():
            fail(f"{folder} is not a converted model (it has no config.json), so it is not replaced")
    with cli_errors(folder), atomic_dir(folder) as tmp_path, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model = convert()
        save(model, tmp_path)
    for warning in caught:
        print_error(str(warning.message), "yellow")
    name, parameters = type(model).__name__, model.num_parameters()
    if as_json:
        print_json({"model": str(folder), "class": name, "parameters": parameters})
    else:
        print(f"{name}, {parameters:,} parameters: {folder}")
