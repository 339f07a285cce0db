"""A quantised network for other tools: one module a format, and `check`, which runs what they made.

`formats.save_export(path, quantized, format)` writes any of `formats.FORMATS`.
"""
