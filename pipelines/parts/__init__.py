"""What makes a whole of the parts of a split: one module each, found because it lies here.

A split that is too large for one file comes in parts, each with a table of its own. What is added
up of a part, or lists them all, is a module with a `PART` (`pipelines.products.Product`); nothing
else changes. Not here: which parts there are (`pipelines.formats.divided`), reading them as one
table (`pipelines.reading.parts`).
"""
