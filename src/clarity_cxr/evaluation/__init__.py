"""How good a checkpoint is: protocols, controls, intervals, and the table that shows them."""
