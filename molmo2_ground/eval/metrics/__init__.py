"""Every metric, defined once. docs/evaluation.md says where each comes from."""
