"""Sphinx configuration: MyST pages, numpydoc docstrings, no network."""

from importlib.metadata import version as installed_version

project = "lazyio"
author = "The lazyio developers"
copyright = "The lazyio developers"
release = version = installed_version("lazyio")

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build"]
default_role = "code"

myst_heading_anchors = 3

autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "lazyio"

# Words of numpydoc's type lines and builtins, which have no page here.
nitpick_ignore_regex = [
    (r"py:(class|exc|obj)", r"(builtins\.)?\w+(Error|Exception)"),
    (r"py:(class|obj)", r"(object|tuple|dict|str|int|float|bool|None|optional|callable)"),
    (r"py:class", r"(typing\.)?Protocol"),
]
