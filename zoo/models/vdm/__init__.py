"""Variational diffusion models (Kingma et al. 2021)."""

from zoo.models.vdm.model import VDM, BoundConfig, Draws, stratified
from zoo.models.vdm.network import ScoreConfig, ScoreNetwork
from zoo.models.vdm.schedules import (
    AlphaCosineSchedule,
    BetaLinearSchedule,
    FixedSchedule,
    MonotoneSchedule,
    NetworkSchedule,
    NoiseLevel,
    NoiseSchedule,
    ScalarSchedule,
    ScheduleConfig,
    make_schedule,
)

__all__ = [
    "VDM",
    "AlphaCosineSchedule",
    "BetaLinearSchedule",
    "BoundConfig",
    "Draws",
    "FixedSchedule",
    "MonotoneSchedule",
    "NetworkSchedule",
    "NoiseLevel",
    "NoiseSchedule",
    "ScalarSchedule",
    "ScheduleConfig",
    "ScoreConfig",
    "ScoreNetwork",
    "make_schedule",
    "stratified",
]
