import sys

import cv2
import numpy as np
import pytest
import torch

from anthrotap_builder.config import FlowSettings
from anthrotap_builder.flow import Flow, raft
from anthrotap_builder.flow.raft import RAFTFlow, load_raft
from anthrotap_builder.flow.track_flow import for_each_pair, track_flow
from anthrotap_builder.utils.assets import AssetError
from helpers.clip_contexts import clip_context

SIZES = [(128, 128), (200, 300), (131, 77), (1, 1), (90, 517)]


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


class PixelDifference:
    """Stands in for the network: the flow at each pixel encodes the values of both images there."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        assert first.dtype == second.dtype == torch.float32
        assert -1 <= min(first.min(), second.min()) <= max(first.max(), second.max()) <= 1
        self.shapes.append(tuple(first.shape))
        return torch.stack([second[:, 0] - 2 * first[:, 0], first[:, 2]], 1)

    @staticmethod
    def expected(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        first, second = (image.astype(np.float64) / 127.5 - 1 for image in (first, second))
        return np.stack([second[..., 0] - 2 * first[..., 0], first[..., 2]], -1)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("tile", [128, 150, 1024])
def test_padding_and_tiles_move_nothing(height: int, width: int, tile: int):
    network = PixelDifference()
    first, second = noise(height, width), noise(height, width, 1)
    flow = RAFTFlow(network, tile)(first, second)
    assert (flow.shape, flow.dtype) == ((height, width, 2), np.float32)
    np.testing.assert_allclose(flow, network.expected(first, second), atol=1e-5)
    largest = -(-tile // 8) * 8
    assert all(shape[:2] == (1, 3) for shape in network.shapes)
    assert all(side % 8 == 0 and 128 <= side <= largest for shape in network.shapes for side in shape[2:])
    assert (len(network.shapes) == 1) == (max(height, width) <= tile)


def test_padding_replicates_the_edge():
    padded = []
    RAFTFlow(lambda a, b: padded.append(a) or torch.zeros(1, 2, *a.shape[2:]))(noise(20, 130), noise(20, 130))
    (image,) = padded[0]
    assert tuple(image.shape) == (3, 128, 136)
    assert torch.equal(image[:, 0], image[:, 54])
    assert not torch.equal(image[:, 54], image[:, 55])
    assert torch.equal(image[..., 2], image[..., 3])
    assert torch.equal(image[..., -1], image[..., -3])


def test_tiles_that_disagree_blend_without_a_step():
    count = iter(range(9))
    flow = RAFTFlow(lambda a, b: torch.full((1, 2, *a.shape[2:]), float(next(count))), 160)
    values = flow(noise(100, 250), noise(100, 250))[..., 0]
    assert np.array_equal(values[0], values[-1])
    steps = np.diff(values[0])
    assert (values[0, 0], values[0, -1]) == (0, 1)
    assert (steps >= 0).all()
    assert steps.max() < 0.05


class FakeModel(torch.nn.Module):
    """Stands in for torchvision's model."""

    def __init__(self) -> None:
        super().__init__()
        self.iterations: set[int] = set()
        self.threads: set[int] = set()

    def __deepcopy__(self, memo) -> "FakeModel":
        return self

    def forward(self, first: torch.Tensor, second: torch.Tensor, num_flow_updates: int) -> list[torch.Tensor]:
        self.iterations.add(num_flow_updates)
        self.threads.add(torch.get_num_threads())
        zero = torch.zeros(1, 2, *first.shape[2:])
        return [zero + 9, zero + torch.tensor([0.5, -0.25])[:, None, None]]


def test_settings_reach_the_network_and_tracks_get_its_last_flow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(raft, "NUM_UPDATES", 5)
    model, asked = FakeModel(), []
    monkeypatch.setattr(raft, "_load_model", lambda *arguments: asked.append(arguments) or model)
    before = torch.get_num_threads()
    settings = {"model": "raft", "raft_size": "small", "weights": "mine.pth"}
    frames, xy = np.zeros((4, 90, 80, 3), np.uint8), np.full((3, 4, 2), 40.5, np.float32)
    one, two = (
        track_flow(clip_context(frames, threads=threads, flow=settings), xy, np.ones((3, 4), bool))[0]
        for threads in (1, 2)
    )
    np.testing.assert_allclose(one.displacement, np.broadcast_to([0.5, -0.25], (3, 3, 2)), atol=1e-5)
    np.testing.assert_array_equal(one.displacement, two.displacement)
    assert asked == [("small", "mine.pth", "cpu")] * 2
    assert model.iterations == {5}
    assert model.threads == {1}
    assert torch.get_num_threads() == before


def test_results_come_in_the_order_of_the_pairs():
    def work(flow: Flow, t: int) -> int:
        return t

    assert for_each_pair(clip_context(noise(8, 8)[None], threads=3), work, range(7, 0, -2)) == [7, 5, 3, 1]


def test_without_torchvision_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match=r"pip install 'anthrotap\[raft\]'") as caught:
        load_raft(FlowSettings(model="raft", weights="nowhere.pth"), "cpu")
    assert "\n" not in str(caught.value)


# From here on with torchvision, where it is there and fits torch.


@pytest.fixture(scope="module")
def optical_flow():
    try:
        from torchvision.models import optical_flow
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no torchvision that fits this torch: {error}")
    return optical_flow


@pytest.fixture(scope="module")
def random_weights(optical_flow, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "random.pth"
    torch.save(optical_flow.raft_small(weights=None).state_dict(), path)
    return str(path)


def test_a_frame_that_needs_no_padding_has_the_flow_of_torchvision(optical_flow, random_weights: str):
    first, second = noise(136, 200), noise(136, 200, 1)
    model = optical_flow.raft_small(weights=None).eval()
    model.load_state_dict(torch.load(random_weights, weights_only=True))
    batch = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in (first, second))
    transforms = optical_flow.Raft_Small_Weights.DEFAULT.transforms()
    with torch.inference_mode():
        expected = model(*transforms(*batch), num_flow_updates=raft.NUM_UPDATES)[-1][0].permute(1, 2, 0).numpy()
    settings = FlowSettings(model="raft", raft_size="small", weights=random_weights)
    flow = load_raft(settings, "cpu")(first, second)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(flow, expected, atol=1e-3)


def test_threads_do_not_disturb_each_other(optical_flow, random_weights: str):
    settings = {"model": "raft", "raft_size": "small", "weights": random_weights}
    frames = [noise(130 + 20 * (t % 3), 140, t) for t in range(6)]

    def work(flow: Flow, t: int) -> np.ndarray:
        return flow(frames[t], frames[t][::-1])

    one, three = (
        for_each_pair(clip_context(frames[0][None], threads=threads, flow=settings), work, range(6))
        for threads in (1, 3)
    )
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_weights_are_an_error_in_one_line(optical_flow, random_weights: str, tmp_path):
    def message(path) -> str:
        with pytest.raises(AssetError, match=r"flow\.weights") as caught:
            load_raft(FlowSettings(model="raft", weights=str(path)), "cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is not torchvision's raft_large" in message(random_weights)
    assert "no such checkpoint" in message(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("these are no weights")
    assert "is no PyTorch checkpoint" in message(tmp_path / "text.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "holds no state_dict" in message(tmp_path / "list.pth")
    torch.save(print, tmp_path / "code.pth")
    assert "is refused" in message(tmp_path / "code.pth")


def test_a_missing_network_is_an_error_in_one_line_with_a_hint(optical_flow, monkeypatch: pytest.MonkeyPatch, tmp_path):
    def reject(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", reject)
    with pytest.raises(AssetError, match=r"no route to host.*fetch https://.*flow\.weights") as caught:
        load_raft(FlowSettings(model="raft"), "cpu")
    assert "\n" not in str(caught.value)


def shifted(shift: tuple[float, float], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """[2, h, w, 3] uint8: blurred noise, and the same moved by `shift` = (x, y) pixels."""
    margin, (height, width) = 24, size
    wide = rng.standard_normal((height + 2 * margin, width + 2 * margin, 3)).astype(np.float32)
    wide = cv2.GaussianBlur(wide, (0, 0), rng.uniform(1, 3))
    wide = np.clip(127.5 + 57 * (wide - wide.mean()) / wide.std(), 0, 255)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(wide, matrix, wide.shape[1::-1], borderMode=cv2.BORDER_REFLECT)
    return np.stack([wide, moved])[:, margin:-margin, margin:-margin].astype(np.uint8)


@pytest.fixture(scope="module")
def trained_weights(optical_flow, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small RAFT that has learned, in minutes, how noise moves."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = optical_flow.raft_small(weights=None).train()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-4, total_steps=700, pct_start=0.1)
    for _ in range(700):
        shifts = rng.uniform(-8, 8, (3, 2)).astype(np.float32)
        pairs = np.stack([shifted(tuple(shift), (128, 128), rng) for shift in shifts], 1)
        first, second = torch.from_numpy(pairs).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
        truth = torch.from_numpy(shifts)[:, :, None, None]
        flows = model(first, second, num_flow_updates=3)
        loss = sum(weight * (flow - truth).abs().mean() for weight, flow in zip((0.64, 0.8, 1), flows, strict=True))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    path = tmp_path_factory.mktemp("raft") / "trained.pth"
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_trained_network_finds_the_shift(trained_weights: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(raft, "NUM_UPDATES", 6)
    settings = FlowSettings(model="raft", raft_size="small", weights=trained_weights)
    rng = np.random.default_rng(1)
    for size, tile in [((128, 128), 1024), ((150, 203), 1024), ((90, 100), 1024), ((200, 300), 128)]:
        flow = load_raft(settings, "cpu")
        monkeypatch.setattr(flow, "_tile", tile)
        for shift in [(5, 0), (0, -4), (-3, 6), (2.5, 2.5)]:
            found = flow(*shifted(shift, size, rng))[16:-16, 16:-16]
            median = np.median(found, axis=(0, 1))
            error = np.median(np.linalg.norm(found - shift, axis=-1))
            print(size, tile, shift, median, f"median error {error:.2f} px")
            np.testing.assert_allclose(median, shift, atol=1)
