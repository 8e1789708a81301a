"""Released CoTracker3 checkpoints (`.pth`, offline and online) to this package's layout."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from anthrotap_hf.models.cotracker3.configuration_cotracker3 import CoTracker3Config
from anthrotap_hf.models.cotracker3.modeling_cotracker3 import CoTracker3ForPointTracking, time_embedding
from anthrotap_hf.utils.checkpoints import (
    CheckpointError,
    Rename,
    build_model,
    load_tensors,
    size_of,
    sizes_make,
    warn_of_other_sines,
    warn_unless_released,
)

# Sines that the files store; ours are computed.
TIME_TABLE = "time_emb"
# Rows of that table in the released online files; the offline ones have 60.
ONLINE_WINDOW = 16
HEAD_SIZE = 48
SIZES = (
    *("window_size", "stage_channels", "feature_size", "num_levels", "support_radius", "correlation_hidden_size"),
    *("correlation_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_virtual_tracks"),
)
RELEASED = (CoTracker3Config(), CoTracker3Config(online=True, window_size=ONLINE_WINDOW, support_grid_size=0))
ANCHORS = ("fnet.conv1.weight", "corr_mlp.fc1.weight", "updateformer.input_transform.weight")
_PARTS = ("weight", "bias")
_LAYERS = (
    ("time_layers", "time_blocks", "attn"),
    ("gather_layers", "space_virtual2point_blocks", "cross_attn"),
    ("virtual_layers", "space_virtual_blocks", "attn"),
    ("spread_layers", "space_point2virtual_blocks", "cross_attn"),
)


def _table() -> list[Rename]:
    former = "updateformer."
    pairs = [
        *(("backbone.stem", "fnet.conv1"), ("backbone.merge", "fnet.conv2"), ("backbone.project", "fnet.conv3")),
        *(("correlation_encoder.expand", "corr_mlp.fc1"), ("correlation_encoder.contract", "corr_mlp.fc2")),
        ("transformer.project_in", f"{former}input_transform"),
        ("transformer.position_head", f"{former}flow_head"),
        ("transformer.state_head", f"{former}vis_conf_head"),
    ]
    for stage in range(4):
        for block in range(2):
            ours, theirs = f"backbone.stages.{stage}.{block}", f"fnet.layer{stage + 1}.{block}"
            pairs += [(f"{ours}.{conv}", f"{theirs}.{conv}") for conv in ("conv1", "conv2")]
            pairs.append((f"{ours}.shortcut", f"{theirs}.downsample.0"))
    for own, name, attention in _LAYERS:
        ours, theirs = f"transformer.{own}.{{}}", f"{former}{name}.{{}}"
        kinds = (("query", "to_q"), ("key_value", "to_kv"), ("out", "to_out"))
        pairs += [(f"{ours}.{one}", f"{theirs}.{attention}.{other}") for one, other in kinds]
        pairs += [(f"{ours}.expand", f"{theirs}.mlp.fc1"), (f"{ours}.contract", f"{theirs}.mlp.fc2")]
        pairs.append((f"{ours}.context_norm", f"{theirs}.norm_context"))
    table = [Rename(f"{ours}.{part}", (f"{theirs}.{part}",)) for ours, theirs in pairs for part in _PARTS]
    # Misspelled as released: [1, V, 1, C].
    return [*table, Rename("transformer.virtual_tracks", (f"{former}virual_tracks",), lambda tensor: tensor[0, :, 0])]


TABLE = _table()


def config_of(tensors: Mapping[str, Tensor], online: bool | None = None) -> CoTracker3Config:
    """Return the configuration that the tensors' shapes tell.

    Args:
        online: whether it is an online model; None: by the rows of the time embedding, 16 in online files.

    Raises:
        CheckpointError: `tensors` are no CoTracker3.
    """
    size = partial(size_of, tensors, "CoTracker3")
    former = "updateformer."

    def layers(name: str) -> int:
        prefix = f"{former}{name}."
        return 1 + max(
            (int(key[len(prefix) :].partition(".")[0]) for key in tensors if key.startswith(prefix)), default=0
        )

    positions = size(("corr_mlp.fc1.weight", 1))
    side = round(positions**0.25)
    encoded = size(("corr_mlp.fc2.weight", 0), ("corr_mlp.fc2.bias", 0))
    tokens = size((f"{former}input_transform.weight", 1), (TIME_TABLE, 2))
    hidden = size((f"{former}input_transform.weight", 0), (f"{former}input_transform.bias", 0))
    window = size((TIME_TABLE, 1))
    is_online = window == ONLINE_WINDOW if online is None else online
    stages = [
        size((f"fnet.layer{stage}.0.conv1.weight", 0), (f"fnet.layer{stage}.1.conv1.weight", 0))
        for stage in range(1, 5)
    ]
    with sizes_make("CoTracker3"):
        return CoTracker3Config(
            online=is_online,
            window_size=window,
            stage_channels=stages,
            feature_size=size(("fnet.conv3.weight", 0), ("fnet.conv3.bias", 0)),
            num_levels=(tokens - 86) // encoded,
            support_radius=(side - 1) // 2,
            correlation_hidden_size=size(("corr_mlp.fc1.weight", 0)),
            correlation_size=encoded,
            hidden_size=hidden,
            num_hidden_layers=max(layers(name) for _, name, _ in _LAYERS),
            num_attention_heads=max(hidden // HEAD_SIZE, 1),
            num_virtual_tracks=size((f"{former}virual_tracks", 1)),
            support_grid_size=0 if is_online else CoTracker3Config().support_grid_size,
        )


def convert_cotracker3(checkpoint: Path, online: bool | None = None) -> CoTracker3ForPointTracking:
    """Return the model of a released checkpoint file, and warn of sizes that are none of the released ones.

    Args:
        checkpoint: the file.
        online: see `config_of`.

    Raises:
        CheckpointError: tensors are missing, not expected or misshapen; or the file is unsafe.
    """
    tensors = load_tensors(checkpoint, ANCHORS)
    config = config_of(tensors, online)
    _check_time(tensors.pop(TIME_TABLE))
    model = build_model(CoTracker3ForPointTracking, config, tensors, TABLE)
    warn_unless_released(config, RELEASED, SIZES)
    return model


def _check_time(table: Tensor) -> None:
    """Warn if the stored sines [1, rows, C], which are no parameters, are not those that the model computes."""
    if table.ndim != 3 or len(table) != 1:
        raise CheckpointError(f"{TIME_TABLE} is {list(table.shape)}, not [1, frames, channels]")
    warn_of_other_sines(TIME_TABLE, (table[0], time_embedding(*table.shape[1:])))
