"""DICOM: films read, results written, and a node that does both for a PACS."""

RESULT_SUFFIXES = (".sr.dcm", ".seg.dcm", ".heat.dcm", ".sc.dcm")
"""Endings of the files that a prediction gives: report, masks, heatmaps, overlay."""
