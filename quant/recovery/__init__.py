"""Accuracy given back by training: straight-through estimates, distillation, learned steps."""
