"""`from_pretrained` of every network refuses weights that are not its own."""

import inspect
import textwrap

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

import anthrotap_hf  # noqa: F401  registers the trackers
from anthrotap_hf.models import MODELS
from anthrotap_hf.pipelines import PointTrackingImageProcessor, PointTrackingPipeline
from helpers.tiny_tokenhmr import save_tiny_tokenhmr
from helpers.trackers import tiny_alltracker, tiny_cotracker3, tiny_locotrack, tiny_tapir, tiny_tapnext

SAVE = {
    "alltracker": lambda folder: tiny_alltracker().save_pretrained(folder),
    "cotracker3": lambda folder: tiny_cotracker3().save_pretrained(folder),
    "locotrack": lambda folder: tiny_locotrack().save_pretrained(folder),
    "tapir": lambda folder: tiny_tapir().save_pretrained(folder),
    "tapnext": lambda folder: tiny_tapnext().save_pretrained(folder),
    "tokenhmr": save_tiny_tokenhmr,
}


def refusal(folder, **options) -> str:
    with pytest.raises(ValueError, match="its weights are not those") as error:
        AutoModel.from_pretrained(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{folder}: its weights are not those of the ")


@pytest.mark.parametrize("name", list(SAVE))
def test_missing_other_and_misshapen_weights_are_refused(name, tmp_path):
    SAVE[name](tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    first, *_, last = sorted(weights)

    def write(changed: dict[str, torch.Tensor]) -> None:
        save_file(changed, file, metadata={"format": "pt"})

    write({key: tensor for key, tensor in weights.items() if key not in (first, last)})
    assert refusal(tmp_path) == f"{name} of its config.json: they lack {first}, and 1 more"
    write({**weights, "another.weight": torch.zeros(2)})
    assert refusal(tmp_path) == f"{name} of its config.json: they have besides another.weight"
    size = [*weights[first].shape]
    write({**weights, first: torch.zeros(3, *size)})
    assert refusal(tmp_path) == f"{name} of its config.json: they have in another size {first} {[3, *size]}, not {size}"
    # Who asks for it gets random numbers, as transformers has it.
    assert AutoModel.from_pretrained(tmp_path, ignore_mismatched_sizes=True).config.model_type == name
    write(weights)
    _, found = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(found.values())


def test_another_architectures_weights_are_refused_also_by_the_code_beside_them(tmp_path):
    model = tiny_locotrack()
    processor = PointTrackingImageProcessor.for_model(model.config)
    PointTrackingPipeline(model, image_processor=processor, device="cpu").save_pretrained(tmp_path)
    tiny_tapir().save_pretrained(tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(tmp_path / "model.safetensors")
    for trust in (False, True):
        assert refusal(tmp_path, trust_remote_code=trust).startswith("locotrack of its config.json: they lack ")


def test_every_network_checks_its_weights_alike():
    """Modeling files stand alone, so each has the method."""
    names = [name for name in MODELS if name != "flowchain"]
    assert names == list(SAVE)
    methods = {textwrap.dedent(inspect.getsource(MODELS.load(name).from_pretrained)) for name in names}
    assert len(methods) == 1
