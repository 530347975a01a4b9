"""DICOM: films read, results written, and a node that does both for a PACS."""
