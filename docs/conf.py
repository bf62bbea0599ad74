"""How Sphinx makes a site of these pages; `make docs` runs it."""

import re
from pathlib import Path

project = "Image API"
author = "the authors of Image API"
version = release = re.search(
    r'__version__ = "(.+)"', Path("../src/imageapi/__init__.py").resolve().read_text()
)[1]

extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["openapi"]
html_theme = "furo"
html_title = f"Image API {version}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_extra_path = ["openapi"]
html_static_path = ["static"]
html_css_files = ["wide.css"]
pygments_style = "default"
