"""Where does it come from, and is it still so? Questions asked of everything together."""
