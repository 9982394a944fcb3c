"""The GPU model against public measurements, and its calibration."""
