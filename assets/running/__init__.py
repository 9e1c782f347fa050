"""What starts runs, and what becomes of them."""
