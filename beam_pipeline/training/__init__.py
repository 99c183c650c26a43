"""From a published folder to a training loop: splits, normalisation by its statistics, a torch Dataset."""
