"""Image API: the queue of photographs nobody has tagged yet."""

__version__ = "0.1.1"
