"""What exists: the catalogue and the Dagster assets made from it. Dagster lives here, nowhere else.

    archives → tables → statistics, exports, croissant   (checks hold them to the catalogue)

Start with `definitions.py`. How anything is made is the business of the package `pipelines`.
"""
