"""The committed files of `reports/`, one module each: `python -m analysis.reports.NAME`."""
