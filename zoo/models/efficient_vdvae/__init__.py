"""Efficient-VDVAE (Hazami, Mama and Thurairatnam 2022, arXiv:2203.13751)."""

from zoo.models.efficient_vdvae.architecture import Architecture, BottomUpStage, TopDownStage
from zoo.models.efficient_vdvae.model import Aids, EfficientVDVAE, Output
from zoo.models.efficient_vdvae.schedule import KLSchedule

__all__ = ["Aids", "Architecture", "BottomUpStage", "EfficientVDVAE", "KLSchedule", "Output", "TopDownStage"]
