"""Where everything lies, and what is known of it: the data folder, provenance, what was seen.

`layout` says where things are, `writing` is the only writer, `hashing` reads a file's SHA-256 and
tells whether it changed since, `seen` keeps that between processes. `provenance` is what is known
of how an artefact was made; `state` decides by it whether there is anything to do, and `making`
does it. Not here: what files contain.
"""
