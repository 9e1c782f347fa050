"""What serves on this machine: the processes behind the UI, and pages of our own.

`processes` keeps those together that live and die together; `code_server` is one of them, `server`
what it starts, and `loaded` what that serves. `sites` sends pages to a browser. Not here: the
definitions (`assets.definitions`), what there is to see, or the commands (`assets.commands`).
"""
