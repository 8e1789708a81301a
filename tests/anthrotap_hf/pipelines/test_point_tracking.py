import functools
import http.server
import io
import json
import threading
import zipfile

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel, BertConfig, BertModel, pipeline
from transformers.pipelines.pt_utils import KeyDataset

import anthrotap_hf
from anthrotap_hf import PointTrackingImageProcessor, PointTrackingPipeline
from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
from anthrotap_hf.models.locotrack import LocoTrackForPointTracking
from anthrotap_hf.pipelines.queries import query_points
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.video import decode_video
from helpers.trackers import tiny_locotrack, tiny_tapnext

POINTS = [[0, 10.5, 8.0], [3, 70, 50], [5, 0, 0]]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def flowchain():
    return pipeline("point-tracking", model=FlowChainForPointTracking(FlowChainConfig()))


@pytest.fixture(scope="module")
def locotrack():
    return pipeline("point-tracking", model=tiny_locotrack())


@pytest.fixture(scope="module")
def tapnext():
    return pipeline("point-tracking", model=tiny_tapnext())


@pytest.fixture(params=["flowchain", "locotrack", "tapnext"])
def tracker(request) -> PointTrackingPipeline:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """[6, 50, 70, 3]: sides that 8 does not divide."""
    return np.random.default_rng(0).integers(0, 255, (6, 50, 70, 3), dtype=np.uint8)


def test_the_output_format(tracker, video):
    found = tracker(video, points=POINTS)
    assert set(found) == {"tracks", "visible", "scores", "uncertainty"}
    assert found["tracks"].shape == (3, 6, 2)
    assert found["visible"].shape == found["scores"].shape == found["uncertainty"].shape == (3, 6)
    assert (found["tracks"].dtype, found["visible"].dtype) == (np.float32, bool)
    assert np.isfinite(found["tracks"]).all()
    assert ((found["tracks"] >= 0) & (found["tracks"] <= [70, 50])).all()
    for name in ("scores", "uncertainty"):
        assert found[name].dtype == np.float32
        assert ((found[name] >= 0) & (found[name] <= 1)).all()


def test_a_query_is_where_it_was_asked_whatever_the_tracker(tracker, video):
    found = tracker(video, points=POINTS)
    for n, (t, x, y) in enumerate(POINTS):
        np.testing.assert_array_equal(found["tracks"][n, t], np.float32([x, y]))
        assert found["visible"][n, t]
        assert (found["scores"][n, t], found["uncertainty"][n, t]) == (1, 0)


@pytest.mark.parametrize("t", [-1, 6])
def test_queries_before_and_after_the_video_are_one_error(tracker, video, t):
    with pytest.raises(
        ValueError, match=rf"point 1 is .*\({t}, 5, 5\), outside the video: t is a whole number from 0 to 5"
    ):
        tracker(video, points=[[0, 5, 5], [t, 5, 5]])


@pytest.mark.parametrize("size", [(720, 404), (404, 720), (50, 71)])
def test_tracks_are_in_the_videos_own_pixels(flowchain, moving_pattern, size):
    """Portrait, landscape, and odd sides; the first two are made smaller for the model."""
    frames = moving_pattern(5, 60, 60).repeat(12, axis=1).repeat(12, axis=2)[:, : size[0], : size[1]]
    queries = [[0, 20.5, 30.25], [4, size[1] - 4, size[0] - 6]]
    found = flowchain(frames, points=queries)
    assert found["tracks"][0, 0].tolist() == pytest.approx([20.5, 30.25], abs=0.01)
    assert found["tracks"][1, 4].tolist() == pytest.approx([size[1] - 4, size[0] - 6], abs=0.01)


def test_a_known_motion_is_found_in_a_video_that_is_made_smaller():
    import cv2

    noise = np.random.default_rng(0).uniform(0, 255, (1000, 1000, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 6)
    noise = 255 * (noise - noise.min()) / (noise.max() - noise.min())
    frames = np.stack([noise[100 + 4 * t : 700 + 4 * t, 150 - 6 * t : 650 - 6 * t] for t in range(6)])
    model = FlowChainForPointTracking(FlowChainConfig(shortest_edge=240))
    found = pipeline("point-tracking", model=model)(frames.astype(np.uint8), points=[[2, 250.5, 300.5]])
    step = np.arange(6)[:, None] - 2
    np.testing.assert_allclose(found["tracks"][0], [250.5, 300.5] + step * [6, -4], atol=1)
    assert found["visible"].all()


def test_one_frame(tracker, video):
    found = tracker(video[:1], points=[[0, 69.5, 49.5]])
    assert found["tracks"].shape == (1, 1, 2)


@pytest.fixture
def served(tmp_path):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_every_way_of_giving_a_video(flowchain, make_video, served):
    path = make_video("a.mp4", shots=[5])
    data = path.read_bytes()
    packed = path.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(path, "a.mp4")
    ways = [
        path,
        str(path),
        data,
        bytearray(data),
        f"{served}/a.mp4",
        {"bytes": data, "path": None},
        {"bytes": None, "path": path},
        {"video": {"bytes": data, "path": "a.mp4"}},
        torch.from_numpy(decode_video(path)),
        io.BytesIO(data),
        f"file://{path}",
        f"zip://a.mp4::{packed}",  # as a streamed dataset has it
    ]
    expected = flowchain(decode_video(path), grid_size=2)["tracks"]
    with path.open("rb") as file:
        np.testing.assert_array_equal(flowchain(file, grid_size=2)["tracks"], expected)
    for way in ways:
        np.testing.assert_array_equal(flowchain(way, grid_size=2)["tracks"], expected)


def test_videos_that_cannot_be_read_are_errors_in_one_line(flowchain, tmp_path, served):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    for given, message in [
        ("nowhere.mp4", "no such file"),
        ("x" * 5000, "no such file"),
        (str(broken), "not a video"),
        (broken.read_bytes(), "not a video"),
        (f"{served}/nowhere.mp4", "not found"),
        ("http://127.0.0.1:9/a.mp4", "refused"),
        ({"bytes": None, "path": None}, "must have bytes"),
        ({"bytes": None, "path": "/etc/hostname"}, "a row's path is opened in a folder of yours alone"),
        ({"bytes": None, "path": "file:///etc/hostname"}, "a row's path is opened in a folder of yours alone"),
        ({"bytes": "file:///etc/hostname"}, "must be bytes, got str"),
        (f"zip://b.mp4::{tmp_path}/nowhere.zip", "nowhere.zip"),
        ("nothing://a.mp4", "nothing"),
        (io.StringIO("text"), "opened to read bytes"),
        (7, "got int"),
        (np.zeros((2, 8, 8, 3), np.int32), "uint8"),
        (np.zeros((2, 8, 8, 5), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((0, 8, 8, 3), np.uint8), "must have frames"),
    ]:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
            flowchain(given, grid_size=2)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


BAD_QUERIES = {
    "one of points=": {},
    "points and points_per_frame": {"points": POINTS, "points_per_frame": 3},
    "no query point": {"points": []},
    "got an array of shape [3]": {"points": [0, 1, 2]},
    "must be numbers": {"points": [[0, 1, "x"]]},
    "(6, 1, 1), outside the video": {"points": [[0, 1, 1], [6, 1, 1]]},
    "(-1, 1, 1), outside": {"points": [[-1, 1, 1]]},
    "(0, 70.5, 1), outside": {"points": [[0, 70.5, 1]]},
    "(0, 1, -0.1), outside": {"points": [[0, 1, -0.1]]},
    "(0, nan, 1), outside": {"points": [[0, float("nan"), 1]]},
    "(nan, 1, 1), outside": {"points": [[float("nan"), 1, 1]]},
    "(0, inf, 1), outside": {"points": [[0, float("inf"), 1]]},
    "(1.5, 1, 1), not in a whole frame": {"points": [[1.5, 1, 1]]},
    "grid_size must be a whole number": {"grid_size": 0},
    "finer than the video": {"grid_size": 51},
    "query_frame must be a whole number from 0 to 5": {"grid_size": 2, "query_frame": 6},
    "query_frame belongs to grid_size": {"points": POINTS, "query_frame": 1},
    "points_per_frame must be": {"points_per_frame": 2.5},
    "more than the video has pixels": {"points_per_frame": 3501},
    "must be at least 1": {"points": POINTS, "query_chunk_size": 0},
    "resolution must be (height, width)": {"points": POINTS, "resolution": (32,)},
}


@pytest.mark.parametrize("message", BAD_QUERIES)
def test_bad_queries_are_rejected_in_one_line(locotrack, video, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        locotrack(video, **BAD_QUERIES[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_frames_own_border_may_be_asked_for_at_any_scale(tracker):
    """Scaled to the model and rounded to float32, a border must not fall outside."""
    for width in (71, 333, 1277):
        frames = np.zeros((2, 37, width, 3), np.uint8)
        tracker(frames, points=[[0, width, 37], [1, 0, 0]])


def test_a_grid_is_even_and_goes_row_by_row():
    queries = query_points(4, 20, 40, grid_size=2, query_frame=3)
    assert queries.tolist() == [[3, 10, 5], [3, 30, 5], [3, 10, 15], [3, 30, 15]]


def test_points_per_frame_fill_every_frame_evenly():
    queries = query_points(5, 20, 40, points_per_frame=16)
    assert queries[:, 0].tolist() == np.repeat(np.arange(5), 16).tolist()
    assert (queries[:, 1:] > 0).all()
    assert (queries[:, 1:] < [40, 20]).all()
    for t in range(5):
        own = queries[queries[:, 0] == t, 1:] // [20, 10]
        assert {tuple(cell) for cell in own} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert len(np.unique(queries[:, 1:], axis=0)) == len(queries)


def test_lists_datasets_and_generators(flowchain, make_video):
    import datasets

    paths = [make_video(f"{n}.mp4", shots=[n]) for n in (3, 5)]
    expected = [flowchain(path, grid_size=2)["tracks"] for path in paths]

    # Rows hold their videos: a path in a row is never opened.
    rows = datasets.Dataset.from_dict({"video": [{"bytes": path.read_bytes(), "path": None} for path in paths]})
    rows = rows.cast_column("video", datasets.Video(decode=False))
    streamed = [
        flowchain([str(path) for path in paths], grid_size=2),
        flowchain((path for path in paths), grid_size=2),
        flowchain(iter(paths), grid_size=2),
        flowchain(KeyDataset(rows, "video"), grid_size=2),
        flowchain(rows, grid_size=2),
        flowchain(rows.to_iterable_dataset(), grid_size=2),
    ]
    for results in streamed:
        for found, tracks in zip(results, expected, strict=True):
            np.testing.assert_array_equal(found["tracks"], tracks)


def test_a_path_in_a_row_is_opened_in_the_users_folder_alone(flowchain, make_video, tmp_path):
    import datasets

    (tmp_path / "mine").mkdir()
    path = make_video("mine/a.mp4", shots=[3])
    other = make_video("other.mp4", shots=[3])
    (tmp_path / "mine/link.mp4").symlink_to(other)
    expected = flowchain(path, grid_size=2)["tracks"]
    mine = str(tmp_path / "mine")
    rows = datasets.Dataset.from_dict({"video": [str(path), "a.mp4"]})
    for row in (rows, [{"video": {"bytes": None, "path": str(path)}}]):
        for found in flowchain(row, grid_size=2, video_folder=mine):
            np.testing.assert_array_equal(found["tracks"], expected)
    # Of many videos, each costs itself alone.
    for found in flowchain(rows, grid_size=2):
        assert "a row's path is opened in a folder of yours alone; name the fol" in str(found["error"])
    for strange in (
        str(other),
        "../other.mp4",
        "link.mp4",
        "mine/../../other.mp4",
        "",
        "a\0.mp4",
        "file:///etc/hostname",
    ):
        with pytest.raises(ValueError, match="mine: a row names no file in this folder, and no other file is opened"):
            flowchain({"bytes": None, "path": strange}, grid_size=2, video_folder=mine)


def test_a_stream_is_read_no_further_than_asked(flowchain, video):
    read = []

    def videos():
        for n in range(5):
            read.append(n)
            yield video[: n + 1]

    results = iter(flowchain(videos(), grid_size=1))
    assert next(results)["tracks"].shape == (1, 1, 2)
    assert len(read) <= 2


def test_videos_may_bring_their_own_queries(flowchain, video):
    own = {"video": video, "points": [[2, 30, 20]]}
    both = flowchain([own, {"video": video}], points=[[1, 40, 30], [0, 1, 1]])
    assert [len(found["tracks"]) for found in both] == [1, 2]
    assert both[0]["tracks"][0, 2].tolist() == [30, 20]


def test_a_batch_of_unlike_videos_is_as_each_alone(tracker, video):
    videos = [video, video[::-1].copy(), video[:3], video[:, ::-1].copy()]
    alone = [tracker(one, points=POINTS[:1]) for one in videos]
    together = tracker(videos, points=POINTS[:1], batch_size=3)
    for one, found in zip(alone, together, strict=True):
        np.testing.assert_allclose(found["tracks"], one["tracks"], atol=1e-2)
        np.testing.assert_allclose(found["scores"], one["scores"], atol=1e-3)


def test_chunks_change_nothing(locotrack, tapnext, flowchain, video):
    many = {"points_per_frame": 15}
    whole = locotrack(video, **many)
    assert len(whole["tracks"]) == 90  # more than LocoTrack takes at once
    for chunks in ({"query_chunk_size": 7}, {"frame_chunk_size": 2}):
        chunked = locotrack(video, **many, **chunks)
        np.testing.assert_allclose(chunked["tracks"], whole["tracks"], atol=1e-2)
    chunked = tapnext(video, points=POINTS, frame_chunk_size=1)
    np.testing.assert_allclose(chunked["tracks"], tapnext(video, points=POINTS)["tracks"], atol=1e-2)
    with pytest.raises(ValueError, match="has no query_chunk_size: leave it out"):
        tapnext(video, points=POINTS, query_chunk_size=2)
    with pytest.raises(ValueError, match="has no frame_chunk_size"):
        flowchain(video, points=POINTS, frame_chunk_size=2)


def test_tapnext_goes_both_ways_as_the_model_does(tapnext, video):
    long = np.concatenate([video] * 6)  # more frames than go at once
    queries = [[0, 10, 8], [20, 70, 50], [35, 0, 0]]
    found = tapnext(long, points=queries)
    scale = torch.tensor([1, 32 / 70, 32 / 50])
    pixels = tapnext.image_processor.preprocess(long)["pixel_values_videos"]
    with torch.inference_mode():
        out = tapnext.model(
            pixel_values_videos=pixels, query_points=torch.tensor([queries]) * scale, bidirectional=True
        )
    # Everywhere but where they were asked.
    others = np.arange(len(long)) != np.array(queries)[:, :1]
    np.testing.assert_allclose(found["tracks"][others], (out.tracks[0] / scale[1:])[others], atol=1e-2)
    np.testing.assert_array_equal(found["visible"][others], (out.visible_logits[0] > 0)[others])


def test_the_resolution_may_be_chosen(locotrack, tapnext, video):
    sizes = []
    original = locotrack.model.get_video_features
    locotrack.model.get_video_features = lambda pixels, *rest: (
        sizes.append(tuple(pixels.shape[-2:])) or original(pixels, *rest)
    )
    try:
        locotrack(video, points=POINTS)
        locotrack(video, points=POINTS, resolution=(48, 64))
    finally:
        del locotrack.model.get_video_features
    assert sizes == [(32, 32), (48, 64)]
    with pytest.raises(ValueError, match="multiples of 8 pixels, got 50: take 48"):
        tapnext(video, points=POINTS, resolution=(50, 64))


def test_options_may_be_given_once_and_for_all(locotrack, video):
    tracker = pipeline("point-tracking", model=locotrack.model, grid_size=2, resolution=(32, 48))
    expected = locotrack(video, grid_size=2, resolution=(32, 48))
    np.testing.assert_array_equal(tracker(video)["tracks"], expected["tracks"])
    with pytest.raises(TypeError, match="grid"):
        locotrack(video, grid=2)


def test_progress_is_shown_when_asked_for(tracker, video, capfd):
    tracker(video, points=POINTS, progress=True)
    output = capfd.readouterr().err
    assert "reading" in output
    assert "tracking" in output
    tracker(video, points=POINTS)
    assert capfd.readouterr().err == ""


def test_the_default_model_is_the_bundled_one_and_is_named(caplog, video):
    tracker = pipeline("point-tracking")
    assert type(tracker) is PointTrackingPipeline
    assert type(tracker.model) is LocoTrackForPointTracking
    assert type(tracker.image_processor) is PointTrackingImageProcessor
    assert "tracking by LocoTrack (locotrack), 813,389 parameters" in caplog.text
    assert "No model was supplied" not in caplog.text
    assert "model=" not in caplog.text
    assert tracker(video, points=POINTS)["tracks"].shape == (3, 6, 2)


def test_models_that_track_nothing_are_rejected(tmp_path):
    bert = BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8))
    with pytest.raises(ValueError, match="BertModel is no point tracker"):
        pipeline("point-tracking", model=bert)
    with pytest.raises(AnthroTapError, match="nowhere: no tracker of that name, no such folder"):
        pipeline("point-tracking", model=str(tmp_path / "nowhere"))


def test_a_saved_model_alone_finds_its_processor(locotrack, video, tmp_path):
    locotrack.model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    loaded = pipeline("point-tracking", model=str(tmp_path))
    assert loaded.image_processor.size == {"height": 32, "width": 32}
    np.testing.assert_array_equal(loaded(video, points=POINTS)["tracks"], locotrack(video, points=POINTS)["tracks"])


def test_the_image_processor_loads_by_itself(locotrack, tmp_path):
    locotrack.save_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(processor) is PointTrackingImageProcessor
    assert processor.to_dict() == locotrack.image_processor.to_dict()


def test_names_are_in_the_public_namespace():
    assert anthrotap_hf.PointTrackingPipeline is PointTrackingPipeline
    assert anthrotap_hf.FlowChainForPointTracking is FlowChainForPointTracking


def test_a_real_clip_by_the_default_model(clips_dir):
    """The camera of this clip stands still, and so does the background behind the juggler."""
    from itertools import islice

    from anthrotap_hf.video import iter_frames

    frames = np.stack([frame.image for frame in islice(iter_frames(clips_dir / "juggle.mp4"), 12)])
    found = pipeline("point-tracking")(frames, points=[[5, 100, 220], [0, 1100, 400], [11, 699.5, 120]])
    still = found["tracks"][:2]
    assert np.abs(still - still[:, :1]).max() < 1
    assert found["visible"][:2].all()
    face = found["tracks"][2]
    assert np.linalg.norm(face - face[-1], axis=-1).max() < 60


def test_numpy_s_whole_numbers_are_whole_numbers(flowchain, video):
    plain = flowchain(video, grid_size=2, query_frame=1, resolution=(32, 48))
    other = flowchain(video, grid_size=np.int64(2), query_frame=np.int32(1), resolution=np.array([32, 48]))
    np.testing.assert_array_equal(plain["tracks"], other["tracks"])
    for wrong, message in [
        ({"grid_size": True}, 'grid_size must be a whole number from 1 up or "all", got True'),
        ({"grid_size": 2.0}, "got 2.0"),
        ({"grid_size": 2, "query_frame": 1.5}, "query_frame must be a whole number from 0 to 5, got 1.5"),
        ({"grid_size": 2, "resolution": 32}, r"resolution must be \(height, width\), got 32"),
    ]:
        with pytest.raises(ValueError, match=message):
            flowchain(video, **wrong)


def test_a_model_that_breaks_the_tracker_interface_is_rejected():
    class Half(FlowChainForPointTracking):
        num_steps = property()

    with pytest.raises(ValueError, match="must either carry a state"):
        PointTrackingPipeline(Half(FlowChainConfig()), image_processor=PointTrackingImageProcessor())


def test_a_model_that_was_loaded_from_a_saved_pipeline_names_no_code_when_saved(locotrack, tmp_path):
    locotrack.save_pretrained(tmp_path / "pipeline")
    model = AutoModel.from_pretrained(tmp_path / "pipeline")
    model.save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert "auto_map" not in saved
    assert "custom_pipelines" not in saved


def test_support_points_are_tracked_around_each_query_and_dropped(monkeypatch):
    tracker = PointTrackingPipeline(tiny_tapnext(support_points=3), device="cpu")
    video = np.random.default_rng(0).integers(0, 256, (3, 40, 80, 3), dtype=np.uint8)
    asked = []
    start = tracker.model.start
    monkeypatch.setattr(tracker.model, "start", lambda queries: asked.append(queries) or start(queries))
    for options, count in (({}, 2 + 6), ({"support_points": 0}, 2), ({"support_points": 8}, 2 + 16)):
        found = tracker(video, points=[[0, 1, 39], [0, 50, 20]], **options)
        assert found["tracks"].shape == (2, 3, 2)
        assert asked[-1].shape == (1, count, 3)
    # A grid of 4 x 2 over a box of 10 x 5 pixels; what lies out of the frame is moved to its last pixel.
    around = asked[-1][0, 2:, 1:].numpy() * [80 / 32, 40 / 32]
    assert around[8:, 0].round(2).tolist() == [46.25, 48.75, 51.25, 53.75] * 2
    assert around[8:, 1].round(2).tolist() == [18.75] * 4 + [21.25] * 4
    assert around[:8].min() == 0
    with pytest.raises(ValueError, match="support_points must be at least 0, got -1"):
        tracker(video, points=[[0, 1, 2]], support_points=-1)
