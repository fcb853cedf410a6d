"""How the documents become pages: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "imgsync"
copyright = "2026 the imgsync contributors"  # noqa: A001, the name that Sphinx reads
extensions = ["myst_parser", "reference"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext"]
# Links within a document lead to its headings, as they do where Markdown is read as it is.
myst_heading_anchors = 4
html_theme = "furo"
html_title = "imgsync"
html_copy_source = False
html_static_path: list[str] = []
# Nothing but what is in the pages' own folder is loaded by whoever reads them.
html_theme_options = {"navigation_with_keys": True}
nitpicky = True
# A JSON block may have "…" in it, a console block a prompt: shown as it is.
suppress_warnings = ["misc.highlighting_failure"]
