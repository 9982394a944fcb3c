"""WHEN tasks run: the pipeline from cascade to report. No accelerator is named here."""
