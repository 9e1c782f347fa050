"""How it is made: plain functions from publishers' bytes to tables, statistics and exports.

Nothing in this package imports Dagster or knows a path of its own: the catalogue and the data
folder are passed in. Data flows one way, and each module is one arrow:

    catalogue → archives → formats → tables → statistics, exports, croissant

`catalogue` says what there is to make. `downloads` and `packages` bring archives, `members` reads
in them, `probes` looks at mirrors without fetching. `duplicates` and `pictures` look at tables.
`lineage` records each arrow, `openlineage` tells others of it, `verification` holds what was made
against records and archives. `hashing` reads a file's SHA-256 and tells whether the file changed
since; `seen` keeps that between processes. `trace` follows a row back against every arrow;
`targets` knows which artefact is meant. `redaction` takes passwords out of what is told. `files`,
`work` and `errors` serve everyone.
"""

__version__ = "0.2.0"
