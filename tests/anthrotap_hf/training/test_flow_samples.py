"""Prepared clips: samples with flow's start that agree with what the network would compute itself."""

import numpy as np
import pytest
import torch

from anthrotap_hf.models.locotrack.modeling_locotrack import follow_flow
from anthrotap_hf.readers.base import BadClipError, DatasetError
from anthrotap_hf.readers.prepared import PreparedClips, prepare_clip
from anthrotap_hf.readers.procedural import ProceduralClips, ProceduralSettings
from anthrotap_hf.training.config import training_recipe
from anthrotap_hf.training.flow_samples import make_flow_sample
from anthrotap_hf.training.mixture import MixtureComponent, MixtureDataset
from anthrotap_hf.training.samples import SampleSettings

SETTINGS = SampleSettings(
    num_frames=8, dilation=1, num_queries=16, height=64, width=64, min_visible=2, affine=None, flip=0.5
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    settings = ProceduralSettings(num_frames=10, height=96, width=96, num_tracks=40, noise=0, blur=0)
    for number in range(2):
        clip = ProceduralClips(settings, seed=5)[number]
        frames = np.stack(list(clip.iter_frames(range(10))))
        labels = clip.tracks
        prepare_clip(folder / f"clip-{number}", frames, labels.xy, labels.visible, labels.valid)
    return folder


def test_a_sample_has_its_labels_and_its_flow(folder):
    clips = PreparedClips(folder, max_color_change=8.0)
    assert len(clips) == 2
    assert clips[1].clip_id == "clip-1"
    assert clips[1].tracks.num_frames == 10
    for seed in range(6):
        sample = make_flow_sample(clips[seed % 2], SETTINGS, np.random.default_rng(seed))
        t = sample["query_points"][:, 0].astype(int)
        n = np.arange(16)
        # The query is a visible label, and flow starts from it.
        np.testing.assert_allclose(sample["query_points"][:, 1:], sample["tracks"][n, t], atol=1e-3)
        assert sample["visible"][n, t].all()
        np.testing.assert_allclose(sample["flow_tracks"][n, t], sample["tracks"][n, t], atol=0.02)
        assert (sample["flow_logits"][n, t] > 0).all()
        inside = ((sample["tracks"] >= 0) & (sample["tracks"] < 64)).all(-1)
        assert not (sample["visible"] & ~inside).any()


def test_flow_of_the_clip_is_nearly_that_of_the_sample(folder):
    sample = make_flow_sample(PreparedClips(folder, max_color_change=8.0)[0], SETTINGS, np.random.default_rng(1))
    video = torch.from_numpy(sample["video"]).permute(0, 3, 1, 2)[None]
    tracks, logits = follow_flow(video, torch.from_numpy(sample["query_points"])[None], 8.0)
    both = (logits[0].numpy() > 0) & (sample["flow_logits"] > 0)
    assert both.mean() > 0.3
    error = np.linalg.norm(tracks[0].numpy() - sample["flow_tracks"], axis=-1)
    assert np.median(error[both]) < 0.3


def test_the_mixture_makes_batches_of_them(folder):
    recipe = training_recipe("tiny-rendered", {"sources": {"rendered": {"data": str(folder)}}})
    source = recipe.sources["rendered"]
    mixture = MixtureDataset([MixtureComponent(source.open(), 1.0, SETTINGS)], batch_size=2, num_steps=3)
    batch = mixture[1]
    assert batch["flow_tracks"].shape == (2, 16, 8, 2)
    assert batch["flow_logits"].shape == (2, 16, 8)
    assert torch.equal(batch["tracks"], mixture[1]["tracks"])


def test_what_cannot_be_used_is_said(folder, tmp_path):
    with pytest.raises(DatasetError, match="no prepared clip"):
        PreparedClips(tmp_path)
    with pytest.raises(BadClipError, match="10 frames of 96x96 are too few or too small"):
        make_flow_sample(PreparedClips(folder)[0], SampleSettings(affine=None), np.random.default_rng(0))
    nothing = np.zeros((1, 2), bool)
    with pytest.raises(BadClipError, match="no label is visible, so flow has none to follow"):
        prepare_clip(tmp_path / "a", np.zeros((2, 32, 32, 3), np.uint8), np.zeros((1, 2, 2)), nothing, nothing)
    with pytest.raises(ValueError, match="prepared clips need"):
        training_recipe("tiny-rendered", {"sources": {"rendered": {"sample": {"crop": [0.5, 1.0]}}}})
