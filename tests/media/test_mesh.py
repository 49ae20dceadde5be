"""Rendered meshes: against geometry done by hand, and both renderers against one another."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from media.draw import Mesh, mesh_gl, render_meshes, renderer_name
from schemas.errors import ArtifactError, ConfigError, MissingExtraError
from tests.media.meshes import ball, glove, placed, sheet

SIZE: dict[str, Any] = {"height": 201, "width": 150, "focal": 1000}
LEVELS = 2
"""By which rounding may move the brightness."""


@lru_cache
def why_no_gl() -> str:
    try:
        renderer_name("gl")
    except (ConfigError, MissingExtraError) as error:
        return str(error)
    return ""


@pytest.fixture(params=["cpu", "gl"])
def renderer(request: pytest.FixtureRequest) -> str:
    if request.param == "gl" and why_no_gl():
        pytest.skip(why_no_gl())
    return request.param


@pytest.fixture
def _gl() -> None:
    if why_no_gl():
        pytest.skip(why_no_gl())


def shade_of(cosine: float | np.ndarray) -> Any:
    return 255 * (0.3 + 0.7 * np.abs(cosine))


def test_a_sphere_has_the_outline_and_the_shading_of_a_sphere(renderer):
    picture = render_meshes([ball(0.5, at=(0, 0, 10), rings=80, sides=120)], **SIZE, renderer=renderer)

    y, x = np.mgrid[: SIZE["height"], : SIZE["width"]]
    from_middle = np.hypot(x - 150 / 2, y - 201 / 2)
    radius = 1000 * 0.5 / np.sqrt(10**2 - 0.5**2)
    assert (picture[from_middle < radius - 0.5] > 0).all()
    assert not picture[from_middle > radius + 0.5].any()
    slope = from_middle[from_middle < 0.95 * radius] / 1000  # of the ray from the camera, away from its axis
    z = (10 - np.sqrt(10**2 - (1 + slope**2) * (10**2 - 0.5**2))) / (1 + slope**2)
    assert np.abs(picture[from_middle < 0.95 * radius] - shade_of((10 - z) / 0.5)).max() <= LEVELS


@pytest.mark.parametrize("turn", [0, 35, -60, 80])
def test_a_sheet_is_as_bright_as_it_faces_the_camera(renderer, turn):
    picture = render_meshes([sheet(width=1, height=1, at=(0, 0, 10), turn=turn)], **SIZE, renderer=renderer)

    drawn = picture[picture > 0]
    assert drawn.size > 500
    assert np.abs(drawn - shade_of(np.cos(np.radians(turn)))).max() <= 1


def test_a_sheet_covers_the_pixels_whose_centres_it_covers(renderer):
    # from x = 20.6 to 70.4 and y = 30.4 to 90.6 px
    flat = sheet(width=0.498, height=0.602, at=((45.5 - 75) / 100, (60.5 - 100.5) / 100, 10))
    picture = render_meshes([flat], **SIZE, renderer=renderer)

    expected = np.zeros_like(picture)
    expected[31:91, 21:71] = 255
    assert (picture == expected).all()


def test_shading_is_interpolated_in_space_and_not_in_the_picture(renderer):
    # A wall that faces us, and from its right edge on, at 2 m, another one that leads away to 18 m.
    vertices = [(-16, -1, 2), (-16, 1, 2), (-0.1, -1, 2), (-0.1, 1, 2), (1.5, -9, 18), (1.5, 9, 18)]
    walls = placed(vertices, [(0, 1, 2), (1, 3, 2), (2, 3, 4), (3, 5, 4)], at=(0, 0, 0))
    row = render_meshes([walls], height=101, width=601, focal=3000, renderer=renderer)[50]

    normals = np.stack([vertex_normal(walls, vertex) for vertex in range(6)])
    for x in range(160, 545, 7):
        ray = ((x - 300.5) / 3000, (50 - 50.5) / 3000, 1)
        for face in walls.faces:
            shares = np.linalg.solve(walls.vertices[face].astype(float).T, ray)
            if (shares > 0).all():
                normal = shares @ normals[face]
                assert abs(row[x] - shade_of(normal[2] / np.linalg.norm(normal))) <= 1
    assert row[530] < 0.7 * row[160]


def vertex_normal(mesh: Mesh, vertex: int) -> np.ndarray:
    """Mean direction of the faces of a vertex, by their area."""
    faces = mesh.vertices[mesh.faces[(mesh.faces == vertex).any(axis=1)]].astype(float)
    total = np.cross(faces[:, 1] - faces[:, 0], faces[:, 2] - faces[:, 0]).sum(axis=0)
    return total / np.linalg.norm(total)


def test_sheets_that_cut_one_another_hide_one_another_up_to_the_cut(renderer):
    straight = sheet(width=1, height=1, at=(0.1, 0, 10))
    slanted = sheet(width=1, height=1, at=(0, 0, 10), turn=60)  # its right side lies behind
    for meshes in ([straight, slanted], [slanted, straight]):
        row = render_meshes(meshes, **SIZE, renderer=renderer)[100]
        assert np.abs(row[52:74].astype(int) - shade_of(0.5)).max() <= 1  # of x from 49.4; they meet at 75
        assert (row[76:134] == 255).all()


def test_the_nearer_mesh_hides_the_farther_in_any_order(renderer):
    near, far = sheet(width=0.2, height=0.2, at=(0, 0, 5)), ball(0.6, at=(0, 0, 12))
    pictures = [render_meshes(meshes, **SIZE, renderer=renderer) for meshes in ([near, far], [far, near])]

    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0][81:121, 56:94] == 255).all()


def test_it_does_not_matter_which_way_round_faces_run(renderer):
    hand = glove(at=(0, 0, 2))
    turned = Mesh(hand.vertices, np.ascontiguousarray(hand.faces[:, ::-1]))
    pictures = [render_meshes([mesh], **SIZE, renderer=renderer).astype(int) for mesh in (hand, turned)]

    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize("place", [(0.25, -0.3), (-0.31, 0.44), (0, 0)])
def test_a_mesh_lies_where_the_camera_projects_it(renderer, place):
    picture = render_meshes([ball(0.05, at=(*place, 5))], **SIZE, renderer=renderer)

    y, x = np.nonzero(picture)
    middle = (1000 * place[0] / 5 + 150 / 2, 1000 * place[1] / 5 + 201 / 2)
    assert (x.mean(), y.mean()) == pytest.approx(middle, abs=0.15)


@pytest.mark.parametrize(
    "at",
    [(30, 0, 10), (0, -30, 10), (0, 0, -10), (1e7, 1e7, 10), (0, 0, 1e9), (5, 5, 0.02)],
    ids=["right", "above", "behind", "very far aside", "very far away", "beside the camera"],
)
def test_what_is_not_in_the_picture_is_harmless(renderer, at):
    away, shown = ball(0.01, at=at), ball(0.3, at=(0, 0, 10))
    alone, both = (render_meshes(meshes, **SIZE, renderer=renderer) for meshes in ([shown], [away, shown]))

    assert np.count_nonzero(alone != both) <= 1


def test_what_reaches_beyond_the_picture_or_behind_the_camera_is_cut(renderer):
    floor = placed([(-1, 1, -5), (1, 1, -5), (0, 1, 30), (-1, 1, 6)], [(0, 1, 2), (0, 2, 3), (3, 2, 2)], at=(0, 0, 0))
    wide = sheet(width=1e6, height=1e6, at=(0, 0, 100))

    assert not render_meshes([floor], **SIZE, renderer=renderer).any()
    assert (render_meshes([floor, wide], **SIZE, renderer=renderer) == 255).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (333, 2), (30, 101)])
def test_pictures_of_any_size(renderer, height, width):
    meshes = [sheet(width=100, height=100, at=(0, 0, 1)), glove(at=(0, 0, 3))]
    picture = render_meshes(meshes, height=height, width=width, focal=200, renderer=renderer)

    assert picture.shape == (height, width)
    assert picture.dtype == np.uint8
    assert (picture == 255).all()


def test_nothing_to_draw(renderer):
    empty = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    no_area = placed([(0, 0, 1), (0, 0, 1), (0.1, 0, 1), (0.2, 0, 1)], [(0, 1, 2), (0, 2, 3)], at=(0, 0, 0))
    for meshes in ([], [empty], [no_area], [empty, no_area]):
        assert not render_meshes(meshes, **SIZE, renderer=renderer).any()
    assert render_meshes([empty, ball(0.1, at=(0, 0, 5))], **SIZE, renderer=renderer).any()


def hands(distance: float) -> list[Mesh]:
    return [glove(at=(-0.06, 0.02, distance)), glove(at=(0.05, -0.03, distance + 0.04))]


def test_a_picture_is_the_same_each_time(renderer):
    first, other = ({"height": 416, "width": 312}, {"height": 50, "width": 60})
    kept = render_meshes(hands(3), **first, focal=4000, renderer=renderer)
    render_meshes(hands(2), **other, focal=300, renderer=renderer)

    assert kept.any()
    assert (render_meshes(hands(3), **first, focal=4000, renderer=renderer) == kept).all()


@pytest.mark.usefixtures("_gl")
@pytest.mark.parametrize("distance", [0.6, 3.1, 40, 270.3])  # HaMeR's camera stands tens to hundreds of metres off
def test_both_renderers_agree(distance):
    size = {"height": 832, "width": 624, "focal": 1100 * distance}
    cpu, gl = (render_meshes(hands(distance), **size, renderer=name).astype(int) for name in ("cpu", "gl"))

    assert (cpu > 0).sum() > 10_000
    differ = (cpu > 0) != (gl > 0)
    edge = cv2.morphologyEx((cpu > 0).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    assert not (differ & (edge == 0)).any()
    assert differ.sum() <= 0.01 * edge.sum()
    assert (np.abs(cpu - gl)[~differ] > LEVELS).mean() < 1e-4  # where two surfaces meet, either may win


@pytest.mark.usefixtures("_gl")
def test_threads_have_contexts_of_their_own():
    alone = render_meshes(hands(3), **SIZE, renderer="gl")
    with ThreadPoolExecutor(4) as threads:
        pictures = list(threads.map(lambda _: render_meshes(hands(3), **SIZE, renderer="gl"), range(20)))

    assert all((picture == alone).all() for picture in pictures)


FORKED = """
import os
from media.draw import render_meshes, renderer_name
from tests.media.meshes import ball
camera = {"height": 50, "width": 50, "focal": 100}
render_meshes([ball(1, at=(0, 0, 5))], **camera, renderer="gl")
child = os.fork()
if child == 0:
    print(renderer_name("auto"), render_meshes([ball(1, at=(0, 0, 5))], **camera).any(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""
WITHOUT_EGL = """
from media.draw import renderer_name
print(renderer_name("auto"), renderer_name("auto"))
renderer_name("gl")
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("_gl")
def test_a_forked_process_does_not_touch_the_context_of_its_parent():
    assert run(FORKED).stdout.split() == ["cpu", "True"]


def test_without_a_driver_auto_is_the_cpu_and_gl_says_what_to_install():
    pytest.importorskip("moderngl")
    done = run(WITHOUT_EGL, GLCONTEXT_LINUX_LIBEGL="libnone.so")

    assert done.stdout.split() == ["cpu", "cpu"]
    assert "ConfigError: OpenGL cannot be had here: libnone.so" in done.stderr
    assert "libgl1-mesa-dri" in done.stderr


def test_without_moderngl_auto_is_the_cpu_and_gl_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    monkeypatch.setattr(mesh_gl, "_canvases", mesh_gl._Canvases())

    assert renderer_name("auto") == "cpu"
    with pytest.raises(MissingExtraError, match="conditions"):
        render_meshes(hands(3), **SIZE, renderer="gl")


VERTICES = np.zeros((4, 3), np.float32)
FACES = np.zeros((2, 3), np.int32)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (VERTICES[:, :2], FACES, "vertices has shape"),
        (VERTICES.astype(np.float64), FACES, "vertices has dtype float64"),
        (VERTICES + np.float32("nan"), FACES, "NaN"),
        (VERTICES, FACES.astype(np.int64), "faces has dtype int64"),
        (VERTICES, FACES[:, :2], "faces has shape"),
        (VERTICES, FACES + np.int32(4), "0..3"),
        (VERTICES, FACES - np.int32(1), "-1"),
        (VERTICES[:0], FACES, "names vertices"),
    ],
)
def test_arrays_that_are_no_mesh_are_refused(vertices, faces, message):
    with pytest.raises(ArtifactError, match=message):
        Mesh(vertices, faces)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"height": 0}, "above 0"),
        ({"width": -3}, "above 0"),
        ({"focal": 0}, "above 0"),
        ({"focal": float("nan")}, "above 0"),
        ({"focal": float("inf")}, "above 0"),
        ({"renderer": "vulkan"}, "auto, cpu, gl"),
    ],
)
def test_settings_that_cannot_be(changed, message):
    with pytest.raises(ConfigError, match=message):
        render_meshes(hands(3), **{**SIZE, **changed})
