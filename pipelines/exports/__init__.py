"""Tables in other people's formats: one module per format, each with one `write`.

`records` reads one record back out of any of them.
"""
