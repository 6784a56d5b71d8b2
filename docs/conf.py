"""Configuration of Sphinx."""

project = "dgex"
author = "The dgex developers"
extensions = [
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
]
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 120)]
myst_enable_extensions = ["dollarmath"]
autosummary_generate = True
numpydoc_show_inherited_class_members = {"sklearn.base.BaseEstimator": False}
numpydoc_class_members_toctree = False
numpydoc_show_class_members = False
autodoc_typehints = "none"
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "dgex"
