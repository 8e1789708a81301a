import numpy as np
import pytest

from anthrotap_builder.mesh_recovery.normal_equations import NormalEquations


@pytest.mark.parametrize(("frames", "lags"), [(1, ()), (2, (1,)), (9, (1, 2)), (12, (1, 2, 8)), (5, (1, 8))])
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_the_banded_bordered_solve_is_the_dense_one(frames: int, lags: tuple[int, ...], damping: float):
    rng = np.random.default_rng(frames)
    size, shapes = 5, 3
    system = NormalEquations(frames, size, shapes)
    total = frames * size + shapes
    dense_rows, dense_residuals = [], []

    def dense(row: np.ndarray, residual: float, parts: dict[int, float]) -> None:
        whole = np.zeros(total)
        for t, sign in parts.items():
            whole[t * size : (t + 1) * size] += sign * row[0 if sign < 0 else -1][:size]
            whole[-shapes:] += sign * row[0 if sign < 0 else -1][size:]
        dense_rows.append(whole)
        dense_residuals.append(residual)

    rows, residuals = rng.normal(size=(frames, 8, size + shapes)), rng.normal(size=(frames, 8))
    system.add(rows, residuals)
    for t in range(frames):
        for r in range(8):
            dense(rows[t, r][None], residuals[t, r], {t: 1})
    for lag in lags:
        start = np.arange(0, frames - lag, 2)
        if not len(start):
            continue
        rows, residuals = rng.normal(size=(2, len(start), 4, size + shapes)), rng.normal(size=(len(start), 4))
        system.add_pairs(lag, start, rows, residuals)
        for n, t in enumerate(start):
            for r in range(4):
                dense(rows[:, n, r], residuals[n, r], {t: -1, t + lag: 1})

    matrix, right = np.array(dense_rows), np.array(dense_residuals)
    square = matrix.T @ matrix
    square += damping * np.diag(np.maximum(np.diag(square), 1e-3))
    expected = np.linalg.solve(square, -matrix.T @ right)
    step, shape_step = system.solve(damping)
    np.testing.assert_allclose(step.reshape(-1), expected[:-shapes], atol=1e-8)
    np.testing.assert_allclose(shape_step, expected[-shapes:], atol=1e-8)
