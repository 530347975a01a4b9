"""Synthetic frontal chest films with all 14 findings, known boxes and exact priors."""

from clarity_cxr.data.phantom.config import PhantomConfig
from clarity_cxr.data.phantom.draw import PhantomBatch, draw_films
from clarity_cxr.data.phantom.write import write_release

__all__ = ["PhantomBatch", "PhantomConfig", "draw_films", "write_release"]
