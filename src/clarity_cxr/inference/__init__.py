"""A trained checkpoint applied to films: in Python, and over folders."""
