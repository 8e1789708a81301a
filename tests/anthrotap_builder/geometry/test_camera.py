import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anthrotap_builder.geometry.camera import Camera


@given(st.floats(0.2, 50), st.floats(0, 640), st.floats(0, 480))
def test_a_point_unprojected_along_its_ray_projects_to_its_pixel(depth: float, x: float, y: float):
    camera = Camera.guess(640, 480, 1.2)
    point = np.array([(x - 320) / camera.focal * depth, (y - 240) / camera.focal * depth, depth])
    np.testing.assert_allclose(camera.project(point), [x, y], atol=1e-6)


def test_points_behind_the_camera_have_no_projection():
    camera = Camera.guess(640, 480, 1.2)
    xy = camera.project(np.array([[0.1, 0.1, -1.0], [0.0, 0.0, 0.0]]))
    assert np.isnan(xy).all()
    assert not camera.contains(xy).any()


def test_the_frame_is_half_open():
    camera = Camera.guess(640, 480, 1.2)
    xy = np.array([[0, 0], [639.9, 479.9], [640, 10], [-0.1, 10]])
    assert camera.contains(xy).tolist() == [True, True, False, False]
