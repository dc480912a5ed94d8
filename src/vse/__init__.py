"""VSE: the Virtual Storage Element and Virtual Analysis Facility for physics sites."""

__version__ = "0.1.0"
