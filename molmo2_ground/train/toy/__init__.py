"""The toy street: seeded synthetic clips of a street seen from above, with exact truth and questions."""
