"""Random cases on which fast models meet their references; `python -m analysis.fuzz` runs them.

The tests draw from the same strategies (extra `dev`: hypothesis).
"""
