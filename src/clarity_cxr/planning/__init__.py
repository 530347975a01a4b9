"""How long, how large and where it is tight: measured constants of a machine, and plans that follow from them."""
