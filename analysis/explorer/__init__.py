"""explore.html: an exploration to look at, with sliders for what varies, in one file.

Nothing in the page is interpolated: every number is one that the simulator gave for a design.
"""
