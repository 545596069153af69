"""The package's version, alone in a file so that a new version number does not invalidate any cached result."""

__version__ = "0.2.0"
