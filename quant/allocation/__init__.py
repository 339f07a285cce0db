"""From rate-distortion curves and budgets to the bit width of every channel, by equal slopes."""
