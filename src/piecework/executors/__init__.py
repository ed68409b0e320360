"""Executors: how tasks run here. One contract (`base`), one file for each way to run."""
