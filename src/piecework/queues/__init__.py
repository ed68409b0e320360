"""Queues: where batches and results wait. One contract (`base`), one file for each place."""
