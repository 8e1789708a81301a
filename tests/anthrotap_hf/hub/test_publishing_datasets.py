"""Publishing datasets: which files are uploaded, and what is rejected."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from anthrotap_hf.cli.main import app
from anthrotap_hf.hub.cards import write_dataset_card
from anthrotap_hf.hub.dataset import prepare_dataset
from anthrotap_hf.hub.errors import PublishError
from anthrotap_hf.hub.licenses import VideoLicense, VideoLicenses
from anthrotap_hf.utils.atomic_files import file_sha256

pytest.importorskip("numba", reason="needs anthrotap[builder]")
FREE = VideoLicenses({}, VideoLicense("cc0-1.0"))


def without_videos(dataset: Path) -> None:
    """Remove the rows' videos, as by `anthrotap build --label-only`."""
    manifest = json.loads((dataset / "manifest.json").read_text())
    for file in manifest["files"]:
        shard = dataset / file["name"]
        table = pq.read_table(shard)
        column = table.schema.get_field_index("video")
        field = table.schema.field(column)
        pq.write_table(table.set_column(column, field, pa.nulls(len(table), field.type)), shard)
        file["sha256"] = file_sha256(shard)
    (dataset / "manifest.json").write_text(json.dumps(manifest | {"label_only": True}))


def test_shards_manifest_card_and_picture_go_up_and_the_rest_stays(dataset):
    publication = prepare_dataset(dataset, "me/dances", video_licenses=FREE)
    assert set(publication.files) == {
        "data/train-00000-of-00001.parquet",
        "manifest.json",
        "README.md",
        ".anthrotap.json",
        "tracks.jpg",
    }
    assert {"one.tracks.mp4", "one.tracks.jpg"} <= set(publication.skipped)
    front = yaml.safe_load(publication.card.split("---")[1])
    assert front["tags"][:2] == ["point-tracking", "anthrotap"]
    assert front["license"] == "other"  # cc-by-4.0 labels, cc0-1.0 videos
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    for arguments in (
        'load_dataset("me/dances", split="train")',
        "| 2 | cc0-1.0 |  |",
        "| Anny body model | apache-2.0 |",
        "The labels: cc-by-4.0.",
        "Whether they consented to this use is not known",
        "100.0 % are visible",
        "tracks.jpg",
    ):
        assert arguments in publication.card


def test_the_card_states_consent_and_attribution(dataset):
    named = VideoLicenses({}, VideoLicense("cc-by-4.0", "The Dancers | example.org"))
    card = prepare_dataset(
        dataset, "me/dances", video_licenses=named, people="All signed; write to me@example.org.", public=True
    ).card
    assert "All signed; write to me@example.org." in card
    assert "| 2 | cc-by-4.0 | The Dancers | example.org |" in card
    assert yaml.safe_load(card.split("---")[1])["license"] == "cc-by-4.0"


def test_videos_go_up_only_under_a_license_that_allows_it(dataset, tmp_path):
    with pytest.raises(PublishError, match=r"hold 2 videos; say under which license .* --label-only"):
        prepare_dataset(dataset)
    table = tmp_path / "licenses.csv"
    table.write_text("video,license,attribution\none.mp4,cc0-1.0,\n")
    with pytest.raises(PublishError, match=r"no license is given for two\.mp4"):
        prepare_dataset(dataset, video_licenses=VideoLicenses.read(str(table), None))
    table.write_text("video,license,attribution\none.mp4,cc0-1.0,\ntwo.mp4,cc-by-nd-4.0,Her\n")
    with pytest.raises(PublishError, match=r"may not be redistributed of two\.mp4 \(cc-by-nd-4\.0\)"):
        prepare_dataset(dataset, video_licenses=VideoLicenses.read(str(table), None))
    with pytest.raises(PublishError, match=r"say whether they consented"):
        prepare_dataset(dataset, video_licenses=FREE, public=True)


def test_labels_alone_want_no_license_of_videos(dataset):
    without_videos(dataset)
    publication = prepare_dataset(dataset, "me/dances", public=True)
    assert "decode_tracks(row)" in publication.card
    assert "anthrotap attach" in publication.card
    assert "tracks.jpg" in publication.files  # tracks on gray
    assert yaml.safe_load(publication.card.split("---")[1])["license"] == "cc-by-4.0"
    with pytest.raises(PublishError, match="hold no videos"):
        prepare_dataset(dataset, video_licenses=FREE)


@pytest.mark.parametrize(("body", "mesh_source"), [("smpl", "fit"), ("smpl", "tokenhmr"), ("smplx", "fit")])
def test_labels_of_the_research_path_are_not_for_commerce(dataset, body, mesh_source):
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["config"] |= {"body": body, "mesh_source": mesh_source}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    card = prepare_dataset(dataset, video_licenses=FREE).card
    assert "The labels: cc-by-nc-4.0." in card
    assert "research only" in card
    with pytest.raises(ValueError, match=r"; cc-by-nc-4\.0 does not"):
        prepare_dataset(dataset, video_licenses=FREE, license="cc-by-4.0")
    with pytest.raises(ValueError, match=r"; cc-by-nc-4\.0 does not"):  # no derivatives, but commerce
        prepare_dataset(dataset, video_licenses=FREE, license="cc-by-nd-4.0")


@pytest.mark.parametrize(
    "name",
    ["SMPL_NEUTRAL.pkl", "smplx/SMPLX_MALE.npz", "basicmodel_m_lbs_10_207_0_v1.0.0.pkl", "tokenhmr.ckpt"],
)
def test_licensed_files_are_rejected_by_name(dataset, name):
    path = dataset / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    with pytest.raises(PublishError, match=rf"{path.name}: .*may not be redistributed; move it out"):
        prepare_dataset(dataset, video_licenses=FREE)


def test_licensed_files_are_rejected_by_content(dataset):
    np.savez(dataset / "harmless.npz", shapedirs=np.zeros(3), posedirs=np.zeros(3), v_template=np.zeros(3))
    with pytest.raises(PublishError, match=r"harmless\.npz: a body model of the SMPL family"):
        prepare_dataset(dataset, video_licenses=FREE)


def test_damaged_and_foreign_folders_are_rejected(dataset, tmp_path):
    with pytest.raises(PublishError, match="not a dataset that"):
        prepare_dataset(tmp_path)
    shard = next(dataset.glob("data/*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(PublishError, match=r"problems in all.*anthrotap verify"):
        prepare_dataset(dataset, video_licenses=FREE)
    (dataset / "manifest.json").write_text("{}")
    with pytest.raises(PublishError, match=r"manifest\.json: .*damaged"):
        prepare_dataset(dataset, video_licenses=FREE)


def test_errors_of_license_tables_name_the_cause(tmp_path):
    table = tmp_path / "licenses.csv"
    for text, arguments in (
        ("video;license\n", "the heading is not"),
        ("video,license,attribution\na.mp4,free,\n", "unknown license 'free'"),
        ("video,license,attribution\na.mp4,cc-by-4.0,\n", "requires attribution"),
        ("video,license\na.mp4,unknown\na.mp4,cc0-1.0\n", "a.mp4 is listed twice"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=arguments):
            VideoLicenses.read(str(table), None)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        VideoLicenses.read(str(table), None)
    with pytest.raises(ValueError, match="requires attribution"):
        VideoLicenses.read("cc-by-4.0", None)


def test_a_dry_run_shows_it_all_and_asks_no_hub(dataset, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    arguments = ["publish", "dataset", str(dataset), "me/dances", "--video-licenses", "cc0-1.0", "--dry-run"]
    dry_run = CliRunner().invoke(app, arguments)
    assert dry_run.exit_code == 0, dry_run.output
    assert "would publish the dataset me/dances, private:" in dry_run.output
    assert "data/train-00000-of-00001.parquet" in dry_run.output
    assert "would not publish: " in dry_run.output
    printed = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert printed["url"] is None
    assert set(printed["files"]) == {
        "data/train-00000-of-00001.parquet",
        "manifest.json",
        "README.md",
        ".anthrotap.json",
        "tracks.jpg",
    }
    rejected = CliRunner().invoke(app, arguments[:4])
    assert rejected.exit_code == 2


@pytest.mark.parametrize("license", ["banana", "my-ncthing", ""])
def test_a_license_that_the_hub_does_not_know_is_rejected(dataset, license):
    with pytest.raises(ValueError, match="is none of the Hub's identifiers"):
        prepare_dataset(dataset, video_licenses=FREE, license=license)


def test_rows_count_even_if_the_manifest_names_other_components(dataset):
    """Two datasets put together: some rows were made with SMPL."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from anthrotap_hf.utils.atomic_files import file_sha256

    shard = dataset / "data/train-00000-of-00001.parquet"
    table = pq.read_table(shard)
    bodies = pa.array(["smpl", *["anny"] * (len(table) - 1)])
    index = table.schema.get_field_index("body_model")
    pq.write_table(table.set_column(index, table.schema.field(index), bodies), shard)
    manifest = json.loads((dataset / "manifest.json").read_text())
    manifest["files"][0]["sha256"] = file_sha256(shard)
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="SMPL body model"):
        prepare_dataset(dataset, video_licenses=FREE, license="mit")
    assert "SMPL body model" in prepare_dataset(dataset, video_licenses=FREE).card


def test_a_card_is_written_before_publishing_too(dataset):
    write_dataset_card(dataset)
    card = (dataset / "README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["configs"][0]["data_files"][0]["split"] == "train"
    assert "None is stated before the dataset is published" in card
    assert "| Anny body model | apache-2.0 |" in card
