"""The simulated robot behind the sample: physics, drawing, three formats and the flaws planted in them."""
