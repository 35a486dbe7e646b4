"""The painter on OpenGL, through VTK. Import this module only after `embryo.render.gl.probe` said yes."""

import os

from embryo.render.gl import window_class

os.environ.update(window_class())  # read by VTK when it is imported

import numpy as np
import pyvista as pv
from vtkmodules.vtkRenderingOpenGL2 import vtkOpenGLSphereMapper

from embryo.render.spheres import AMBIENT, DIFFUSE, LIGHT, SHININESS, SPECULAR, Image, Spheres, paint


class Canvas:
    """An off-screen window, opened once and painted many times."""

    def __init__(self) -> None:
        self._plotter = pv.Plotter(off_screen=True, lighting="none")
        self._plotter.set_background("white")
        self._plotter.add_light(pv.Light(light_type="camera light", position=LIGHT, focal_point=(0, 0, 0)))

    def paint(self, spheres: Spheres, size: tuple[int, int]) -> Image:
        """Paint `spheres`; discs of flat data need no OpenGL."""
        if spheres.flat or not len(spheres.centres):
            return paint(spheres, size)
        plotter = self._plotter
        plotter.window_size = list(size)
        actor = _actor(spheres, size[1])
        plotter.add_actor(actor, render=False, reset_camera=False)
        self._look(spheres, size)
        plotter.render()
        picture = np.asarray(plotter.screenshot(None, return_img=True))
        plotter.remove_actor(actor, render=False, reset_camera=False)
        return picture[..., :3]

    @property
    def renderer(self) -> str:
        """What draws, as OpenGL names it."""
        lines = self._plotter.render_window.ReportCapabilities().splitlines()
        named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("OpenGL renderer string")]
        return named[0] if named else ""

    def close(self) -> None:
        """Give the window back."""
        self._plotter.close()

    def _look(self, spheres: Spheres, size: tuple[int, int]) -> None:
        near = float((spheres.centres[:, 2] + spheres.radius).max()) + 1.0
        far = float((spheres.centres[:, 2] - spheres.radius).min()) - 1.0
        middle = (size[0] / 2, size[1] / 2)
        camera = self._plotter.camera
        camera.parallel_projection = True
        camera.focal_point, camera.position, camera.up = (*middle, far), (*middle, near + 1.0), (0.0, 1.0, 0.0)
        camera.parallel_scale = size[1] / 2
        camera.clipping_range = (0.5, near + 2.0 - far)


def _actor(spheres: Spheres, height: int) -> pv.Actor:
    points = spheres.centres.astype(np.float32)
    points[:, 1] = height - points[:, 1]
    cloud = pv.PolyData(points)
    cloud["rgb"] = np.round(255 * np.clip(spheres.rgb, 0, 1)).astype(np.uint8)
    cloud["radius"] = spheres.radius.astype(np.float32)
    mapper = vtkOpenGLSphereMapper()
    mapper.SetInputData(cloud)
    mapper.SetScaleArray("radius")
    mapper.SetScalarModeToUsePointFieldData()
    mapper.SelectColorArray("rgb")
    mapper.SetColorModeToDirectScalars()
    actor = pv.Actor()
    actor.SetMapper(mapper)
    actor.prop.ambient, actor.prop.diffuse = AMBIENT, DIFFUSE
    actor.prop.specular, actor.prop.specular_power = SPECULAR, SHININESS
    return actor


def self_test() -> str:
    """Paint one small red sphere and return what drew it; run in a process of its own.

    Raises
    ------
    SystemExit
        Unless the sphere is there.
    """
    canvas = Canvas()
    red = Spheres(np.array([[16.0, 16.0, 0.0]]), np.array([10.0]), np.array([[1.0, 0.0, 0.0]]))
    picture = canvas.paint(red, (32, 32)).astype(int)
    renderer = canvas.renderer
    canvas.close()
    if not (picture[16, 16, 0] > picture[16, 16, 1] + 50 and (picture[1, 1] == 255).all()):
        raise SystemExit("OpenGL painted a wrong picture")  # noqa: EM101  not an error for the person
    return renderer
