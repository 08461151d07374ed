"""Evaluation: suites of examples, metrics, runs and reports. Every number that is quoted comes from here."""
