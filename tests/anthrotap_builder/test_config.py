import pytest

from anthrotap_builder.config import FlowSettings, LabelingConfig, labeling_config
from anthrotap_builder.utils.assets import AssetError


def test_settings_are_checked():
    assert labeling_config() == LabelingConfig()
    changed = labeling_config(settings={"clips": {"fps": 10}, "points": 64})
    assert (changed.clips.fps, changed.points) == (10, 64)
    assert changed.clips.clip_frames == LabelingConfig().clips.clip_frames
    with pytest.raises(ValueError, match=r"no recipe 'fancy'; there is .*open"):
        labeling_config("fancy")
    with pytest.raises(ValueError, match=r"clips\.fsp: Extra inputs"):
        labeling_config(settings={"clips": {"fsp": 10}})
    with pytest.raises(ValueError, match=r"clips\.clip_frames: Input should be") as caught:
        labeling_config(settings={"clips": {"clip_frames": 0}})
    assert "\n" not in str(caught.value)


def test_recipes_are_files(tmp_path, monkeypatch):
    (tmp_path / "paper.yaml").write_text("clips:\n  fps: 10\n  clip_frames: 24\n")
    monkeypatch.setattr("anthrotap_builder.config.RECIPES", tmp_path)
    config = labeling_config("paper", {"clips": {"clip_frames": 12}})
    assert (config.clips.fps, config.clips.clip_frames) == (10, 12)


def test_a_recipe_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("points: 64\n")
    assert labeling_config(path).points == 64
    path.write_text("just words")
    with pytest.raises(ValueError, match=r"mine\.yaml: should be a mapping"):
        labeling_config(path)
    path.write_text("a: [")
    with pytest.raises(ValueError, match=r"mine\.yaml: cannot be read as YAML") as caught:
        labeling_config(path)
    assert "\n" not in str(caught.value)


def test_settings_that_change_labels_change_the_version():
    assert LabelingConfig().version() == LabelingConfig().version()
    for settings in ({"filter": {"max_drift": 2.0}}, {"detection": {"quality": "fast"}}):
        assert labeling_config(settings=settings).version() != LabelingConfig().version()


def test_an_option_of_the_other_flow_is_an_error():
    with pytest.raises(ValueError, match=r"flow: .*dis does not use raft_size, weights") as caught:
        labeling_config(settings={"flow": {"raft_size": "small", "weights": "raft.pth"}})
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"raft does not use preset"):
        FlowSettings(model="raft", preset="medium")
    with pytest.raises(ValueError, match=r"detection: .*boxes does not use num_passes"):
        labeling_config(settings={"detection": {"detector": "boxes", "num_passes": 1, "high_score_threshold": 0.6}})
    with pytest.raises(ValueError, match=r"detection: .*boxes does not use quality"):
        labeling_config(settings={"detection": {"detector": "boxes", "quality": "fast"}})
    with pytest.raises(ValueError, match=r"detection: .*blazepose does not use detector_model"):
        labeling_config(settings={"detection": {"detector_model": "mine"}})
    settings = FlowSettings(model="raft", raft_size="small", weights="raft.pth")
    assert FlowSettings.model_validate(settings.model_dump()) == settings


def test_files_count_by_content_not_by_location(tmp_path):
    def version(path) -> str:
        config = labeling_config(settings={"flow": {"model": "raft", "weights": str(path)}})
        assert config.flow.weights == config.model_dump(mode="json")["flow"]["weights"] == str(path)
        assert str(tmp_path) not in str(config.describe())
        return config.version()

    for name, content in {"a.pth": "one", "b.pth": "one", "c.pth": "other"}.items():
        (tmp_path / name).write_text(content)
    assert version(tmp_path / "a.pth") == version(tmp_path / "b.pth") != version(tmp_path / "c.pth")
    before = version(tmp_path / "a.pth")
    (tmp_path / "a.pth").write_text("changed")
    assert version(tmp_path / "a.pth") != before
    for name, content in {"x": "one", "y": "one", "z": "other"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text(content)
    assert version(tmp_path / "x") == version(tmp_path / "y") != version(tmp_path / "z")


def test_a_body_takes_only_the_options_that_it_has(tmp_path):
    assert labeling_config(settings={"body": "smplx", "gender": "female"}).gender == "female"
    animal = {"body": "smal", "body_file": tmp_path, "mesh_source": "file"}
    assert labeling_config(settings=animal).body_file == tmp_path
    for settings, reason in (
        ({"gender": "male"}, "gender is for smpl, smplh and smplx; anny has only neutral"),
        ({**animal, "gender": "male"}, "smal has only neutral"),
        ({**animal, "body_file": None}, "smal needs body_file"),
        ({**animal, "mesh_source": "fit"}, "body: smal is for a file of meshes"),
        ({"body_file": "x.npz"}, "body_file is for smpl, smplh, smplx and smal; anny has none"),
        ({"body": "smpl", "gender": "other"}, "gender: Input should be 'neutral', 'male' or 'female'"),
        ({"body": "smurf"}, "body: 'smurf' is not known: choose from anny, mesh, smal, smpl, smplh, smplx"),
    ):
        with pytest.raises(ValueError, match=reason) as caught:
            labeling_config(settings=settings)
        assert "\n" not in str(caught.value)


def test_a_body_counts_by_its_file_wherever_that_is_found(tmp_path, monkeypatch):
    def version(**settings) -> str:
        config = labeling_config(settings=settings)
        assert str(tmp_path) not in str(config.describe())
        return config.version()

    for folder, content in {"here/smpl": "one", "there": "one", "other": "other"}.items():
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "SMPL_NEUTRAL.pkl").write_text(content)
    monkeypatch.setenv("ANTHROTAP_BODY_MODELS", str(tmp_path / "here"))
    one = version(body="smpl")
    assert one == version(body="smpl", body_file=tmp_path / "there" / "SMPL_NEUTRAL.pkl")
    assert one == version(body="smpl", body_file=tmp_path / "there")
    assert len({one, version(), version(body="smpl", body_file=tmp_path / "other")}) == 3
    with pytest.raises(AssetError, match="no male SMPL body model"):
        version(body="smpl", gender="male")


@pytest.mark.parametrize(
    ("recipe", "row"),
    [
        ("open-unfiltered", "projection of the mesh"),
        ("open-ray-casting", "+ ray casting"),
        ("open-flow-filtering", "+ forward-backward check of steps (the paper's rule)"),
        ("open", "default"),
    ],
)
def test_rows_of_the_ablation_are_recipes_too(recipe, row):
    from benchmarks.label_accuracy.ablation import ABLATION

    assert labeling_config(recipe) == ABLATION[row].configured(LabelingConfig())


def test_visibility_is_one_of_three_rules():
    with pytest.raises(ValueError, match="visibility: Input should be 'none', 'rays' or 'margin'"):
        labeling_config("open", {"visibility": "always"})


def test_a_recipe_that_extends_itself_is_an_error(tmp_path):
    (tmp_path / "round.yaml").write_text("extends: round.yaml\n")
    with pytest.raises(ValueError, match="extends must name another recipe"):
        labeling_config(tmp_path / "round.yaml")
