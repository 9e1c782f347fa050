"""What exists: the catalogue and the Dagster assets made from it. Dagster lives here, nowhere else.

    archives → tables → statistics, exports, croissant   (checks hold them to the catalogue)

One module per stage, and beside them `checks`, `metadata` (what the UI shows of an asset),
`resources` (what assets are given to work with), `overview` (what is here, without Dagster),
`settings`. `graph` makes assets of the catalogue; `running` starts runs of them, and `definitions`
is all that together, as the UI loads it. `command_line` reads what people type and shows what comes
of it; each of the `commands` is one module.

Start with `graph.py`. How anything is made is the business of the package `pipelines`.
"""
