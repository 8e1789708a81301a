import numpy as np
import pytest

from anthrotap_builder.bodies import load_body
from anthrotap_builder.bodies.body import Body
from anthrotap_builder.geometry.surface import sample_surface


def test_an_unknown_body_names_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown body model 'smurf'; known: anny, smpl"):
        load_body("smurf")


def test_anny_is_a_whole_person(anny: Body):
    assert anny.template.shape == (13718, 3)
    assert anny.faces.shape == (27420, 3)
    height = np.ptp(anny.template[:, 2])
    assert 1.4 < height < 1.9
    np.testing.assert_allclose(anny.weights.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(anny.keypoints.mass.sum(1), 1, atol=1e-9)
    assert (anny.parents[1:] < np.arange(1, anny.num_joints)).all()
    assert 0.5 < anny.outer.mean() < 1  # eyes and mouth have an inside


def test_keypoints_at_rest_are_at_the_joints_they_are_named_after(anny: Body):
    at = dict(zip(anny.keypoint_landmarks.tolist(), anny.keypoints.moment.sum(1), strict=True))
    assert at[0][1] < at[7][1]  # nose in front of the left ear (the body faces -y)
    assert at[11][0] > 0 > at[12][0]  # left is +x
    assert at[11][2] > at[23][2] > at[25][2] > at[27][2]  # shoulder, hip, knee, ankle


def test_a_saved_body_loads_as_it_was(anny: Body, tmp_path):
    anny.save(tmp_path / "body.npz")
    again = Body.load(tmp_path / "body.npz")
    assert again.name == anny.name
    np.testing.assert_array_equal(again.keypoints.moment, anny.keypoints.moment)
    np.testing.assert_array_equal(again.prior.lower, anny.prior.lower)
    assert [p.name for p in tmp_path.iterdir()] == ["body.npz"]


def test_a_damaged_compact_copy_is_recreated(anny: Body, tmp_path, monkeypatch, caplog):
    import anthrotap_builder.bodies.anny as module

    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path))
    path = module.compact_path()
    assert path.parent == tmp_path
    path.write_bytes(b"PK\x03\x04 not really")
    monkeypatch.setattr(module, "_build", lambda: anny)
    assert module.load_anny.__wrapped__().template.shape == anny.template.shape
    assert "damaged" in caplog.text
    assert path.stat().st_size > 1e6


def test_surface_points_are_seeded_even_and_outside(anny: Body):
    points = anny.surface_points(256, seed=3)
    again = sample_surface(anny.template, anny.faces, 256, 3, anny.outer)
    np.testing.assert_array_equal(points.face, again.face)
    assert (sample_surface(anny.template, anny.faces, 256, 4, anny.outer).face != points.face).any()
    assert anny.outer[points.face].all()
    np.testing.assert_allclose(points.barycentric.sum(1), 1)
    assert (points.barycentric >= 0).all()
    positions = points.positions(anny.template, anny.faces)
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1) + np.eye(256)
    random = anny.template[np.random.default_rng(0).choice(13718, 256)]
    random_apart = np.linalg.norm(random[:, None] - random[None], axis=-1) + np.eye(256)
    assert apart.min() > 5 * random_apart.min()
    corners = anny.faces[points.face]
    nearest = np.linalg.norm(anny.template[corners] - positions[:, None], axis=-1).min(1)
    np.testing.assert_allclose(np.linalg.norm(anny.template[points.vertex] - positions, axis=-1), nearest, atol=0.02)


def test_no_area_no_points(anny: Body):
    with pytest.raises(ValueError, match="area"):
        sample_surface(anny.template, anny.faces, 4, 0, np.zeros(len(anny.faces), bool))
    with pytest.raises(ValueError, match="at least one"):
        sample_surface(anny.template, anny.faces, 0, 0)


@pytest.mark.slow
def test_the_compact_body_is_anny(tmp_path, monkeypatch, anny: Body):
    """Anny's own forward pass, in its rest pose, for the mean of the phenotypes: the same skin within 2 mm."""
    import torch

    from anthrotap_builder.bodies.anny import _linear_shapes, _load_full_model

    model, _ = _load_full_model()
    mean, directions = _linear_shapes(model)
    rng = np.random.default_rng(1)
    labels = model.phenotype_labels
    phenotypes = {label: torch.as_tensor(rng.uniform(0.35, 0.65, 8)) for label in labels}
    exact = model.get_phenotype_blendshape_coefficients(**phenotypes).numpy() - mean
    basis = model.blendshapes.numpy().reshape(len(mean), -1)
    target, span = exact @ basis, directions @ basis
    solution, *_ = np.linalg.lstsq(span.T, target.T, rcond=None)
    rest = (target - solution.T @ span).reshape(8, -1, 3)
    assert np.sqrt((rest**2).sum(-1).mean()) < 0.002
    assert anny.template.shape[0] == basis.shape[1] // 3
