"""How it is made: plain functions from publishers' bytes to tables, statistics and exports.

Nothing in this package imports Dagster or knows a path of its own: the catalogue and the data
folder are passed in. Data flows one way, and each module is one arrow:

    catalogue → archives → formats → tables → statistics, exports     (lineage watches each arrow)

`trace` follows a row back against every arrow; `targets` knows which artefact is meant.
`downloads` and `packages` bring archives, `members` reads in them; `files`, `work` and `errors`
serve everyone.
"""

__version__ = "0.1.0"
