"""Pictures without a graphics driver: MuJoCo's geoms through a pinhole, as shaded polygons from far to near."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from examples.sample.robot import Floats, load_model

SIZE_PX = 96
SUPERSAMPLE = 2
CAMERAS = ("front", "wrist")
NEAR_M = 0.02
LIGHT = np.array([0.4, 0.35, 0.85])
COLOURS = {"red": (205, 40, 32), "green": (40, 160, 60), "blue": (40, 80, 205), "yellow": (225, 195, 40)}
TABLE = ((186, 154, 116), (166, 136, 102))
SKY = (196, 206, 214)
TILES = 8
_ROWS, _COLUMNS = np.divmod(np.arange(TILES * TILES), TILES)
RINGS = (_ROWS * (TILES + 1) + _COLUMNS)[:, None] + np.array([0, TILES + 1, TILES + 2, 1])
"""(TILES^2, 4) corners of each tile in GRID."""
GRID = np.array([[x, y, 0.0] for x in np.linspace(0.0, 0.9, TILES + 1) for y in np.linspace(-0.5, 0.5, TILES + 1)])
CUBE_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))
CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
FOCAL = {"front": 1.5, "wrist": 0.72}
"""Focal length as a share of the image's width."""

Frames = NDArray[np.uint8]
Shape = tuple[float, list[tuple[float, float]], tuple[int, int, int], float]
"""Depth m, outline px, colour, and the line's width px where it is a capsule's axis, 0 for a filled polygon."""


@dataclass(frozen=True)
class View:
    """A pinhole: `rotation` (3, 3) has the image's right, down and forward axes as rows, `centre` (3,) m."""

    rotation: Floats
    centre: Floats
    focal_px: float

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """(N, 2) px and (N,) depth m of (N, 3) points; what is behind the near plane has no useful px."""
        local = (points - self.centre) @ self.rotation.T
        depth = local[:, 2]
        scale = self.focal_px / np.maximum(depth, NEAR_M)
        return local[:, :2] * scale[:, None] + SIZE_PX * SUPERSAMPLE / 2, depth


def look_at(eye: Floats, target: Floats, up: Floats, focal_px: float) -> View:
    """A pinhole at `eye` with `target` in its middle."""
    ahead = target - eye
    forward = ahead / np.sqrt(ahead @ ahead)
    right = _cross(forward, up)
    right = right / np.sqrt(right @ right)
    return View(np.stack([right, _cross(forward, right), forward]), eye, focal_px)


def _cross(a: Floats, b: Floats) -> Floats:
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def view_of(camera: str, model: mujoco.MjModel, data: mujoco.MjData) -> View:
    """The camera at this moment: `front` stands still, `wrist` rides on the hand and looks past the fingers."""
    focal = FOCAL[camera] * SIZE_PX * SUPERSAMPLE
    if camera == "front":
        return look_at(np.array([1.35, 0.75, 0.85]), np.array([0.32, 0.0, 0.3]), np.array([0.0, 0.0, 1.0]), focal)
    hand = model.body("panda_hand").id
    pose = data.xmat[hand].reshape(3, 3)
    eye = data.xpos[hand] + pose @ np.array([0.09, 0.0, 0.0])
    return look_at(eye, data.xpos[hand] + pose @ np.array([0.0, 0.0, 0.16]), -pose[:, 0], focal)


def _lit(colour: tuple[int, int, int], normal: Floats) -> tuple[int, int, int]:
    share = 0.65 + 0.35 * max(0.0, float(normal @ LIGHT))
    r, g, b = (min(255, int(c * share)) for c in colour)
    return r, g, b


def _table(view: View) -> list[Shape]:
    px, depth = view.project(GRID)
    corners, near = px[RINGS], depth[RINGS].min(axis=1)
    edge = SIZE_PX * SUPERSAMPLE
    seen = (near > NEAR_M) & (corners.min(axis=1) < edge).all(axis=1) & (corners.max(axis=1) > 0).all(axis=1)
    return [
        (np.inf, [(x, y) for x, y in corners[k].tolist()], TABLE[(k // TILES + k) % 2], 0.0)
        for k in np.flatnonzero(seen).tolist()
    ]


def _cube(view: View, centre: Floats, pose: Floats, half_m: float, colour: tuple[int, int, int]) -> list[Shape]:
    corners = centre + half_m * CORNERS @ pose.T
    px, depth = view.project(corners)
    if depth.min() < NEAR_M:
        return []
    shapes: list[Shape] = []
    for face in CUBE_FACES:
        middle = corners[list(face)].mean(axis=0)
        normal = (middle - centre) / half_m
        if normal @ (view.centre - middle) > 0:
            shapes.append(
                (float(depth.mean()), [(x, y) for x, y in px[list(face)].tolist()], _lit(colour, normal), 0.0)
            )
    return shapes


def _capsules(view: View, model: mujoco.MjModel, data: mujoco.MjData, geoms: NDArray[np.int64]) -> list[Shape]:
    axis = data.geom_xmat[geoms].reshape(-1, 3, 3)[:, :, 2] * model.geom_size[geoms, 1:2]
    middle = data.geom_xpos[geoms]
    px, ends = view.project(np.concatenate([middle - axis, middle + axis]))
    px, ends = px.reshape(2, -1, 2), ends.reshape(2, -1)
    depth = (ends[0] + ends[1]) / 2
    widths = (2 * model.geom_size[geoms, 0] * view.focal_px / np.maximum(depth, NEAR_M))[:, None]
    low, high = np.minimum(px[0], px[1]) - widths, np.maximum(px[0], px[1]) + widths
    seen = (ends.min(axis=0) > NEAR_M) & (low < SIZE_PX * SUPERSAMPLE).all(axis=1) & (high > 0).all(axis=1)
    colours = (model.geom_rgba[geoms, :3] * 255).astype(int).tolist()
    lines = px.transpose(1, 0, 2).tolist()
    return [
        (
            float(depth[k]),
            [(x, y) for x, y in lines[k]],
            (colours[k][0], colours[k][1], colours[k][2]),
            float(widths[k, 0]),
        )
        for k in np.flatnonzero(seen).tolist()
    ]


def _stroke(
    draw: ImageDraw.ImageDraw, line: list[tuple[float, float]], colour: tuple[int, int, int], width: float
) -> None:
    """A capsule: dark rim, its colour, and a highlight, each a thick line with round ends."""
    (x0, y0), (x1, y1) = line
    for share, tone, shift in ((1.0, 0.55, 0.0), (0.86, 0.85, 0.0), (0.4, 1.04, -0.14)):
        fill = (int(colour[0] * tone), int(colour[1] * tone), int(colour[2] * tone))
        radius, move = width * share / 2, shift * width
        draw.line([x0 + move, y0 + move, x1 + move, y1 + move], fill=fill, width=max(1, round(2 * radius)))
        for x, y in ((x0 + move, y0 + move), (x1 + move, y1 + move)):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill)


class Painter:
    """Draws episodes from their qpos; holds the model and the front camera's table, which never changes."""

    def __init__(self) -> None:
        self._model = load_model()
        self._data = mujoco.MjData(self._model)
        self._arm = np.flatnonzero(self._model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE).astype(np.int64)
        self._blank = Image.new("RGB", (SIZE_PX * SUPERSAMPLE, SIZE_PX * SUPERSAMPLE), SKY)
        self._backdrop = self._blank.copy()
        self._fill(self._backdrop, _table(view_of("front", self._model, self._data)))

    def frames(self, qpos: Floats, colour: str) -> dict[str, Frames]:
        """Camera -> (T, SIZE_PX, SIZE_PX, 3) of an episode's qpos (T, 16)."""
        out = {camera: np.zeros((len(qpos), SIZE_PX, SIZE_PX, 3), np.uint8) for camera in CAMERAS}
        for t, q in enumerate(qpos):
            self._data.qpos[:] = q
            mujoco.mj_kinematics(self._model, self._data)
            for camera in CAMERAS:
                out[camera][t] = self._draw(camera, COLOURS[colour])
        return out

    def _draw(self, camera: str, colour: tuple[int, int, int]) -> Frames:
        model, data = self._model, self._data
        view = view_of(camera, model, data)
        image = (self._backdrop if camera == "front" else self._blank).copy()
        cube = model.geom("cube").id
        pose = data.geom_xmat[cube].reshape(3, 3)
        shapes = [] if camera == "front" else _table(view)
        shapes += _cube(view, data.geom_xpos[cube], pose, float(model.geom_size[cube, 0]), colour)
        shapes += _capsules(view, model, data, self._arm)
        self._fill(image, shapes)
        return np.asarray(image.reduce(SUPERSAMPLE), np.uint8)

    @staticmethod
    def _fill(image: Image.Image, shapes: list[Shape]) -> None:
        draw = ImageDraw.Draw(image)
        for _, outline, colour, width in sorted(shapes, key=lambda shape: -shape[0]):
            if width:
                _stroke(draw, outline, colour, width)
            else:
                draw.polygon(outline, fill=colour)
