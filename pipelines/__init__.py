"""How it is made: plain functions from publishers' bytes to tables, statistics and exports.

Nothing in this package imports Dagster or knows a path of its own: the catalogue and the data
folder are passed in. Data flows one way:

    catalogue → archives → formats → tables → statistics, exports, descriptions

`catalogue` reads what there is to make (`declarations`), and `plan` says what follows from it:
every artefact, and what each is made from. `store` keeps artefacts with their provenance, and
`lineage` asks of all of them where they come from and whether they are still so. A format, an
export or a description is one module in its package; `products` is the contract of the latter two,
and `stages` names all kinds of artefacts. `records` is what flows; `errors`, `redaction`,
`progress` and `threads` serve everyone. `docs/architecture.md` is the map, and `CONTRIBUTING.md`
says where things go.
"""

__version__ = "0.2.0"
