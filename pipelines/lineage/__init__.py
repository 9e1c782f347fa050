"""Where does everything come from, and is it still so? Questions asked of all artefacts together.

`status` says what is up to date, `overview` how a dataset stands and since when that is known
(`metrics` for monitoring), `verify` what is still whole, `deep` whether it is what the archives
say, `lock` gives one digest for all, `diff` says what changed between two datasets. `targets` knows
which artefact a person means, and `trace` follows it back to the publisher (a module each for a
record, a whole artefact, a row of figures). `openlineage` tells other catalogues. All of them read
the plan: a new export or description needs nothing here. Not here: making or mending anything.
"""
