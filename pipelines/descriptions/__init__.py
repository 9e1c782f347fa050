"""What people and other catalogues are told of a dataset: one module each."""
