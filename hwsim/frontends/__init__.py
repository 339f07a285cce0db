"""Ways into a LayerGraph, one per file; torch is imported nowhere else in hwsim."""
