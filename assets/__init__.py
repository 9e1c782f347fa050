"""What exists: the catalogue and the Dagster assets made from it. Dagster lives here, nowhere else.

    archives → tables → statistics, exports, descriptions   (checks hold them to the catalogue)

`archives`, `tables`, `statistics` and `products` (every export and description) are the assets of a
stage; beside them `checks`, `metadata` (what the UI shows of an asset), `resources` (what assets
are given to work with) and `settings`. `graph` makes assets of the plan; `running` starts runs of
them, and `definitions` is all that together, as the UI loads it. `command_line` reads what people
type and shows what comes of it; each of the `commands` is one module.

Start with `graph.py`. Not here: how anything is made (`pipelines`).
"""
