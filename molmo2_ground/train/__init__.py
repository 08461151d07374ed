"""Training: message trees, the toy street, and the recipe of the bundled tiny model."""
