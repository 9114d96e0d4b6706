"""Pictures for people: image grids and plots, drawn in one place for commands, training runs and tables."""

from zoo.pictures.grid import grid, save_grid, save_picture
from zoo.pictures.plot import Curve, Plot, save_plot

__all__ = ["Curve", "Plot", "grid", "save_grid", "save_picture", "save_plot"]
