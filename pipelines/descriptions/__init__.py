"""What people and catalogues are shown of a dataset: a module each, found because it lies here.

A new description is a module with a `DESCRIPTION` (`pipelines.products.Product`); nothing else
changes. A module whose name begins with `_` helps others. Not here: the records in other people's
formats (`pipelines.exports`).
"""
