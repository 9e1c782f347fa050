"""Datasets in other people's formats: one module each, found because it lies here.

A new export is a module with an `EXPORT` (`pipelines.products.Product`) that names the format's own
source and says how its readers open it; nothing else changes. A module whose name begins with `_`
helps another. Not here: what describes a dataset (`pipelines.descriptions`).
"""
