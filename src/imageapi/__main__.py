"""Runs the command line as ``python -m imageapi``."""

from imageapi.cli import main

if __name__ == "__main__":
    main()
