"""The processes behind the UI: what serves the definitions to it and starts their runs.

`processes` keeps those together that live and die together; `code_server` is one of them, and
`loaded` what it serves. Not here: the definitions themselves (`assets.definitions`), or the command
that starts it all (`assets.commands.ui`).
"""
