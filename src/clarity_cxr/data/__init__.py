"""From a folder in the NIH release layout to a packed store: release, splits, films, store, checks."""
