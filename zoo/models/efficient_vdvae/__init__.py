"""Efficient-VDVAE (Hazami, Mama and Thurairatnam 2022, arXiv:2203.13751)."""

from zoo.models.efficient_vdvae.blocks import DownStage, UpStage
from zoo.models.efficient_vdvae.network import EfficientVDVAE
from zoo.models.efficient_vdvae.schedule import KLSchedule

__all__ = ["DownStage", "EfficientVDVAE", "KLSchedule", "UpStage"]
