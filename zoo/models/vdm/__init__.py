"""Variational diffusion models (Kingma et al. 2021)."""

from zoo.models.vdm.model import VDM, Draws, stratified
from zoo.models.vdm.network import ScoreNetwork
from zoo.models.vdm.schedules import (
    FixedSchedule,
    MonotoneSchedule,
    NetworkSchedule,
    NoiseLevel,
    NoiseSchedule,
    ScalarSchedule,
    make_schedule,
)

__all__ = [
    "VDM",
    "Draws",
    "FixedSchedule",
    "MonotoneSchedule",
    "NetworkSchedule",
    "NoiseLevel",
    "NoiseSchedule",
    "ScalarSchedule",
    "ScoreNetwork",
    "make_schedule",
    "stratified",
]
