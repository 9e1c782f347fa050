"""Tables in other people's formats: one module per format, each with one `write`."""
