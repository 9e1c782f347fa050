"""How the command line looks."""
