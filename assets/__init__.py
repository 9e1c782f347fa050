"""What exists: the catalogue and the Dagster assets made from it. Dagster lives here, nowhere else.

    archives → tables → statistics, exports, croissant   (checks hold them to the catalogue)

One module per stage; beside them `checks`, `metadata` (what the UI shows of an asset), `resources`
(what assets are given to work with), `automation` with `mirrors` and `notifications` (what starts
runs, and tells people), `runs` (one run in this process), `passwords` (removes those that 0.1.0
left in Dagster's databases), `overview` (what is here, without Dagster), `settings`. `__main__` is
the command line; `display` and `tracing` are how it looks, `processes` keeps the UI and its daemon
together.

Start with `definitions.py`. How anything is made is the business of the package `pipelines`.
"""
