"""Anatomy of chest films: segmenters, the priors of stores and releases, and the check that a film is one."""

from clarity_cxr.anatomy.regions import REGIONS
from clarity_cxr.anatomy.segmenters import load_segmenter

__all__ = ["REGIONS", "load_segmenter"]
