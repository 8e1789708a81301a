"""Components and their licenses, and under which license a combination may be published."""

from __future__ import annotations

from typing import get_args

import pytest

from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.hub.licenses import (
    COMPONENTS,
    MAY_BE_REDISTRIBUTED,
    OTHER_LICENSES,
    VideoLicenses,
    choose_license,
    components_of_rows,
)
from anthrotap_hf.hub.upload import Publication
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.provenance import RESEARCH_ONLY, UNKNOWN, Component

EVERY_COMPONENT = [component for table in COMPONENTS.values() for component in table.values()]


@pytest.mark.parametrize("component", EVERY_COMPONENT, ids=lambda each: each.name)
def test_each_known_component_states_a_license_and_its_terms(component):
    assert component.license in {*MAY_BE_REDISTRIBUTED, *OTHER_LICENSES, RESEARCH_ONLY, UNKNOWN}
    assert component.terms


def test_every_source_of_training_has_a_component():
    config = pytest.importorskip("anthrotap_hf.training.config", reason="needs anthrotap[training]")
    classes = get_args(get_args(config.Source)[0])
    kinds = {get_args(each.model_fields["kind"].annotation)[0] for each in classes}
    assert kinds - {"shards"} == set(COMPONENTS["training_sources"])


def test_rows_name_their_components_once_and_unknown_parts_as_such():
    rows = [("anny", "fit", "dis"), ("anny", "fit", "dis"), ("mesh", "file", None), ("robot", "fit", "dis")]
    found = components_of_rows(rows, "me/labels")
    assert [(each.name, each.license) for each in found] == [
        ("Anny body model", "apache-2.0"),
        ("AnthroTAP's fit", "apache-2.0"),
        ("DIS optical flow", "apache-2.0"),
        ("meshes from a file", "unknown"),
        ("flow of `me/labels` `None`", "unknown"),
        ("body model of `me/labels` `robot`", "unknown"),
    ]


def test_a_license_may_not_grant_more_than_a_component_does():
    free, smpl = COMPONENTS["body_models"]["anny"], COMPONENTS["body_models"]["smpl"]
    assert choose_license(None, [free], "cc-by-4.0", "labels") == "cc-by-4.0"
    assert choose_license(None, [free, smpl], "cc-by-4.0", "labels") == "cc-by-nc-4.0"
    assert choose_license("all-rights-reserved", [smpl], "cc-by-4.0", "labels") == "all-rights-reserved"
    with pytest.raises(PublishError, match="mit allows commercial use of the labels, but SMPL") as error:
        choose_license("mit", [free, smpl], "cc-by-4.0", "labels")
    assert error.value.argument == "license"


def test_what_is_trained_from_weights_has_their_license_by_default():
    weights, smpl = COMPONENTS["released_weights"], COMPONENTS["body_models"]["smpl"]
    flow = COMPONENTS["flows"]["raft"]
    assert flow.license == "bsd-3-clause"

    def default(*components: Component) -> str:
        return choose_license(None, components, "apache-2.0", "weights")

    assert default(weights["locotrack"], flow) == "apache-2.0"
    assert default(weights["alltracker"], flow) == "mit"
    assert default(weights["alltracker"], smpl) == "cc-by-nc-4.0"
    assert default(Component("theirs", "cc-by-nc-sa-4.0", "on their page", is_weights=True), smpl) == "cc-by-nc-sa-4.0"
    with pytest.raises(PublishError, match=r"apache-2\.0 allows commercial use of the weights, but CoTracker3"):
        choose_license("apache-2.0", [weights["cotracker3"]], "apache-2.0", "weights")


def test_a_mesh_source_of_its_own_license_wants_a_choice_and_a_mix_of_training_videos_does_not():
    sources = COMPONENTS["mesh_sources"]
    with pytest.raises(PublishError, match="SAM License"):
        choose_license(None, [sources["file:sam-3d-body"]], "cc-by-4.0", "labels")
    assert choose_license("cc-by-4.0", [sources["file:sam-3d-body"]], "cc-by-4.0", "labels") == "cc-by-4.0"
    # The narrowest terms count.
    narrower = [sources["file:sam-3d-body"], sources["file:gvhmr"]]
    assert choose_license(None, narrower, "cc-by-4.0", "labels") == "cc-by-nc-4.0"
    videos = Component("public clips", "other", "Apache-2.0 and CC BY 4.0: see Data")
    assert choose_license(None, [videos], "apache-2.0", "weights") == "apache-2.0"


def test_tables_know_folders(tmp_path):
    """Two videos of one name are told apart by their folders."""
    for name in ("mine/x.mp4", "theirs/x.mp4", "theirs/deep/y.MP4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    table = tmp_path / "table.csv"
    table.write_text("video,license,attribution\ntheirs/,cc-by-4.0,them\nmine/x.mp4,cc0-1.0,\ntheirs/deep/y.MP4,mit,\n")
    licenses = VideoLicenses.read(str(table), None)
    found = {name: licenses.of("x.mp4", file_sha256(tmp_path / name)) for name in ("mine/x.mp4", "theirs/x.mp4")}
    assert {name: license and license.license for name, license in found.items()} == {
        "mine/x.mp4": "cc0-1.0",
        "theirs/x.mp4": "cc-by-4.0",
    }
    assert licenses.of("y.MP4", file_sha256(tmp_path / "theirs/deep/y.MP4")).license == "mit"
    assert licenses.of("x.mp4", "another") is None
    table.write_text("video,license\nnowhere/x.mp4,mit\n")
    with pytest.raises(PublishError, match="no such video, and no folder of videos"):
        VideoLicenses.read(str(table), None)


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearest_folder_counts_and_one_video_has_one_license(order, tmp_path):
    for name in ("v/y.mp4", "v/b/x.mp4", "v/b/c/z.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    table = tmp_path / "table.csv"
    rows = ["v/b/,cc-by-4.0,them", "v/,cc0-1.0,", "v/b/c/,mit,"][::order]
    table.write_text("\n".join(["video,license,attribution", *rows]))
    licenses = VideoLicenses.read(str(table), None)
    found = [licenses.of("", file_sha256(tmp_path / name)).license for name in ("v/y.mp4", "v/b/x.mp4", "v/b/c/z.mp4")]
    assert found == ["cc0-1.0", "cc-by-4.0", "mit"]
    (tmp_path / "v/b/x.mp4").write_text("v/y.mp4")
    with pytest.raises(PublishError, match=r"y\.mp4 and .*x\.mp4 are the same video, with two licenses"):
        VideoLicenses.read(str(table), None)


def test_links_out_of_a_dataset_are_not_published(tmp_path):
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "dataset/data").mkdir(parents=True)
    shard = tmp_path / "dataset/data/train.parquet"
    shard.symlink_to(tmp_path / "secret")
    with pytest.raises(PublishError, match=r"train\.parquet: a link to .*secret"):
        Publication("dataset", {"README.md": b"card", "data/train.parquet": shard}, ("data/*",))
    shard.unlink()
    shard.write_text("rows")
    assert "data/train.parquet" in Publication("dataset", {"README.md": b"", "data/train.parquet": shard}, ()).files
